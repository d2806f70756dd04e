"""Facts about the networks of `models.block_networks`, in the order of `models.MODELS`.

`params_m` and `gmacs` are counted from what is built, at the default depth, width and resolution.
"""

from __future__ import annotations

from models.facts import TEN_CLASSES, ModelInfo, OptionRule

OPTIONS = {
    **TEN_CLASSES,
    "depth": OptionRule(int, 12, 3, "blocks of all three stages together"),
    "width": OptionRule(
        int, 1, 1, "channels of the first stage, in 32s; each stage has twice the one before"
    ),
}
SIDE = 32  # of the smallest image: windows of 4x4 divide its maps


def _network(block: str, paper: str, *, params_m: float, gmacs: float) -> ModelInfo:
    return ModelInfo(
        "Block networks",
        f"{block} in the network for 32x32 that all blocks share",
        paper,
        OPTIONS,
        SIDE,
        SIDE,
        multiple_of=SIDE,
        params_m=params_m,
        gmacs=gmacs,
    )


BLOCK_NETWORKS: dict[str, ModelInfo] = {
    "blocknet/ncb": _network("NCB", "Li et al., Next-ViT, arXiv 2207.05501", params_m=0.97, gmacs=0.043),
    "blocknet/bottleneck": _network(
        "BottleNeck", "He et al., ResNet, arXiv 1512.03385", params_m=0.20, gmacs=0.008
    ),
    "blocknet/convnext": _network(
        "ConvNeXt", "Liu et al., ConvNeXt, arXiv 2201.03545", params_m=0.84, gmacs=0.033
    ),
    "blocknet/transformer": _network(
        "Global attention", "Dosovitskiy et al., ViT, arXiv 2010.11929", params_m=1.15, gmacs=0.062
    ),
    "blocknet/lsa": _network(
        "Attention in windows", "Chu et al., Twins, arXiv 2104.13840", params_m=1.15, gmacs=0.045
    ),
    "blocknet/poolformer": _network(
        "PoolFormer", "Yu et al., PoolFormer, arXiv 2111.11418", params_m=0.80, gmacs=0.030
    ),
    "blocknet/mbconv": _network(
        "MBConv", "Sandler et al., MobileNetV2, arXiv 1801.04381", params_m=1.21, gmacs=0.046
    ),
}
