"""Facts about `models.block_networks` and `models.hybrid_networks`, in the order of `models.MODELS`.

`params_m` and `gmacs` are counted from what is built, at the default depth, width and resolution.
"""

from __future__ import annotations

from models.facts import TEN_CLASSES, ModelInfo, OptionRule

HIDDEN = OptionRule(int, 100, 25, "hidden channels of every block, in percent of its paper's, in whole 8s")
OPTIONS = {
    **TEN_CLASSES,
    "depth": OptionRule(int, 12, 3, "blocks of all three stages together"),
    "width": OptionRule(
        int, 1, 1, "channels of the first stage, in 32s; each stage has twice the one before"
    ),
    "hidden": HIDDEN,
}
SIDE = 32  # of the smallest image: windows of 4x4 divide its maps
HYBRID_OPTIONS = {
    **TEN_CLASSES,
    "depth": OptionRule(int, 12, 4, "blocks of all four stages together"),
    "hidden": HIDDEN,
}
NEXTVIT_PAPER = "Li et al., Next-ViT, arXiv 2207.05501"


def _network(
    block: str, paper: str, *, params_m: float, gmacs: float, stochastic_depth: bool = False
) -> ModelInfo:
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
        stochastic_depth=stochastic_depth,
    )


def _hybrid(strategy: str, *, params_m: float, gmacs: float) -> ModelInfo:
    return ModelInfo(
        "Hybrid strategies",
        f"{strategy} of NCBs and NTBs in the network for 32x32 that all strategies share",
        NEXTVIT_PAPER,
        HYBRID_OPTIONS,
        SIDE,
        8,
        params_m=params_m,
        gmacs=gmacs,
        stochastic_depth=True,
    )


BLOCK_NETWORKS: dict[str, ModelInfo] = {
    "blocknet/ncb": _network("NCB", NEXTVIT_PAPER, params_m=0.97, gmacs=0.043, stochastic_depth=True),
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

HYBRID_NETWORKS: dict[str, ModelInfo] = {
    "hybrid/cccc": _hybrid("CCCC", params_m=1.72, gmacs=0.042),
    "hybrid/ccct": _hybrid("CCCT", params_m=1.65, gmacs=0.041),
    "hybrid/cctt": _hybrid("CCTT", params_m=1.50, gmacs=0.039),
    "hybrid/cttt": _hybrid("CTTT", params_m=1.47, gmacs=0.037),
    "hybrid/chhh": _hybrid("CHHH", params_m=1.67, gmacs=0.041),
    "hybrid/n1": _hybrid("CHHH with (NCB + NTB) x L in stage 3", params_m=1.62, gmacs=0.040),
    "hybrid/n2": _hybrid("CHHH with (NCB x 2 + NTB) x L in stage 3", params_m=1.65, gmacs=0.040),
    "hybrid/n4": _hybrid("CHHH with (NCB x 4 + NTB) x L in stage 3", params_m=1.67, gmacs=0.041),
}
