"""Networks and blocks: how to build, load, fuse and count them.

Importing this package loads no torch; the functions do when called.

A new model is one file with a builder, one line in MODELS and one entry in `models.info.INFO`, or for a block
in `models.block_facts.BLOCKS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import CheckpointError, FoldingError, ModelError, UnknownModelError
from models.spec import Case, ModelSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "MODELS",
    "Case",
    "CheckpointError",
    "FoldingError",
    "ModelError",
    "ModelSpec",
    "UnknownModelError",
    "build",
    "instantiate",
    "load_checkpoint",
]

MODELS = {
    "nextvit_small": "models.nextvit:nextvit_small",
    "nextvit_base": "models.nextvit:nextvit_base",
    "nextvit_large": "models.nextvit:nextvit_large",
    "nextvit_micro": "models.nextvit_micro:nextvit_micro",
    "nextvit_stem": "models.nextvit_parts:stem",
    "nextvit_head": "models.nextvit_parts:head",
    "peak/gemm": "models.peak:gemm",
    "peak/copy": "models.peak:copy",
    "mobilevig_ti": "models.mobilevig:mobilevig_ti",
    "mobilevig_s": "models.mobilevig:mobilevig_s",
    "mobilevig_m": "models.mobilevig:mobilevig_m",
    "mobilevig_b": "models.mobilevig:mobilevig_b",
    "efficientmod_xxs": "models.efficientmod:efficientmod_xxs",
    "efficientmod_xs": "models.efficientmod:efficientmod_xs",
    "efficientmod_s": "models.efficientmod:efficientmod_s",
    "efficientmod_s_conv": "models.efficientmod:efficientmod_s_conv",
    "fcaformer_l1": "models.fcaformer:fcaformer_l1",
    "fcaformer_l2": "models.fcaformer:fcaformer_l2",
    "fcaformer_l3": "models.fcaformer:fcaformer_l3",
    "fcaformer_l4": "models.fcaformer:fcaformer_l4",
    "cswin_tiny": "models.cswin:cswin_tiny",
    "cswin_small": "models.cswin:cswin_small",
    "cswin_base": "models.cswin:cswin_base",
    "pvt_tiny": "models.pvt:pvt_tiny",
    "pvt_small": "models.pvt:pvt_small",
    "pvt_medium": "models.pvt:pvt_medium",
    "pvt_large": "models.pvt:pvt_large",
    "vcmamba_s": "models.vcmamba:vcmamba_s",
    "vcmamba_m": "models.vcmamba:vcmamba_m",
    "vcmamba_b": "models.vcmamba:vcmamba_b",
    "plainmamba_l1": "models.plainmamba:plainmamba_l1",
    "plainmamba_l2": "models.plainmamba:plainmamba_l2",
    "plainmamba_l3": "models.plainmamba:plainmamba_l3",
    "mobile_former_508m": "models.mobile_former:mobile_former_508m",
    "mobile_former_294m": "models.mobile_former:mobile_former_294m",
    "mobile_former_214m": "models.mobile_former:mobile_former_214m",
    "mobile_former_151m": "models.mobile_former:mobile_former_151m",
    "mobile_former_96m": "models.mobile_former:mobile_former_96m",
    "pyramid_vig_ti": "models.pyramid_vig:pyramid_vig_ti",
    "pyramid_vig_s": "models.pyramid_vig:pyramid_vig_s",
    "pyramid_vig_m": "models.pyramid_vig:pyramid_vig_m",
    "pyramid_vig_b": "models.pyramid_vig:pyramid_vig_b",
    "blocknet/ncb": "models.block_networks:ncb",
    "blocknet/bottleneck": "models.block_networks:bottleneck",
    "blocknet/convnext": "models.block_networks:convnext",
    "blocknet/transformer": "models.block_networks:transformer",
    "blocknet/lsa": "models.block_networks:lsa",
    "blocknet/poolformer": "models.block_networks:poolformer",
    "blocknet/mbconv": "models.block_networks:mbconv",
    "hybrid/cccc": "models.hybrid_networks:cccc",
    "hybrid/ccct": "models.hybrid_networks:ccct",
    "hybrid/cctt": "models.hybrid_networks:cctt",
    "hybrid/cttt": "models.hybrid_networks:cttt",
    "hybrid/chhh": "models.hybrid_networks:chhh",
    "hybrid/n1": "models.hybrid_networks:n1",
    "hybrid/n2": "models.hybrid_networks:n2",
    "hybrid/n4": "models.hybrid_networks:n4",
    "block/ncb": "models.nextvit_blocks:ncb",
    "block/ntb": "models.nextvit_blocks:ntb",
    "block/bottleneck": "models.bottleneck:bottleneck",
    "block/convnext": "models.convnext:convnext",
    "block/transformer": "models.transformer:transformer",
    "block/lsa": "models.twins:lsa",
    "block/poolformer": "models.poolformer:poolformer",
    "block/mbconv": "models.mbconv:mbconv",
    "block/repvgg": "models.repvgg:repvgg",
    "block/mobileone": "models.mobileone:mobileone",
    "block/efficientformer4d": "models.efficientformer:efficientformer4d",
}


def build(name: str, **options: Any) -> nn.Module:
    """The network or block `name` (a key of MODELS, or `timm/NAME`), freshly initialized, in eval mode.

    Raises UnknownModelError with near names, and ModelError for options that it does not take.
    """
    from models import building

    return building.build(name, options)


def instantiate(spec: ModelSpec, *, checkpoint: Path | None = None) -> nn.Module:
    """The network of a ModelSpec with its weights; see `models.building.instantiate`."""
    from models import building

    return building.instantiate(spec, checkpoint=checkpoint)


def load_checkpoint(net: nn.Module, path: str | Path, *, ema: bool = False) -> None:
    """Load a `.safetensors`, `.pth` or `.pt` file strictly; see `models.checkpoint.load_checkpoint`."""
    from models import checkpoint

    checkpoint.load_checkpoint(net, Path(path), ema=ema)
