"""Facts about the blocks, in the order of `models.MODELS`: where each is from, and which options it takes."""

from __future__ import annotations

from models.facts import ModelInfo, OptionRule

BLOCK = {
    "in_channels": OptionRule(int, None, 1, "channels of the input; must be given"),
    "out_channels": OptionRule(int, None, 1, "channels of the output; those of the input unless given"),
    "stride": OptionRule(int, 1, 1, "1 or 2"),
    "resolution": OptionRule(int, None, 1, "side of the input; must be given"),
}
MLP4 = {"mlp_ratio": OptionRule(float, 4.0, 0.25, "hidden channels of the MLP per channel")}
HEADS = {"head_dim": OptionRule(int, 32, 1, "channels per attention head")}

NEXTVIT_PAPER = "Li et al., Next-ViT, arXiv 2207.05501"

BLOCKS: dict[str, ModelInfo] = {
    "block/ncb": ModelInfo(
        "Next-ViT",
        "Next Convolution Block: multi-head convolution, MLP",
        NEXTVIT_PAPER,
        {**BLOCK, "mlp_ratio": OptionRule(float, 3.0, 0.25, "hidden channels of the MLP per channel")},
        divisor=32,
    ),
    "block/ntb": ModelInfo(
        "Next-ViT",
        "Next Transformer Block: E-MHSA on 3/4 of the channels, MHCA on the rest, MLP",
        NEXTVIT_PAPER,
        {
            **BLOCK,
            "reduction": OptionRule(
                int, None, 1, "side of a key's share of tokens; keeps about 49 keys unless given"
            ),
            "mlp_ratio": OptionRule(float, 2.0, 0.25, "hidden channels of the MLP per channel"),
        },
        divisor=32,
        minimum_channels=64,
    ),
    "block/bottleneck": ModelInfo(
        "ResNet",
        "BottleNeck of ResNet-50 v1.5: 1x1, 3x3, 1x1 convolution",
        "He et al., ResNet, arXiv 1512.03385",
        BLOCK,
        divisor=4,
    ),
    "block/convnext": ModelInfo(
        "ConvNeXt",
        "Depthwise 7x7, LayerNorm, GELU MLP",
        "Liu et al., ConvNeXt, arXiv 2201.03545",
        {**BLOCK, **MLP4},
        reshape="ConvNeXt downsamples between blocks, with LayerNorm and a 2x2 convolution",
    ),
    "block/transformer": ModelInfo(
        "ViT",
        "Pre-norm transformer block: global self-attention, GELU MLP",
        "Dosovitskiy et al., ViT, arXiv 2010.11929",
        {**BLOCK, **HEADS, **MLP4},
        divisor="head_dim",
        reshape="ViT keeps one shape from its patch embedding to the end",
    ),
    "block/lsa": ModelInfo(
        "Twins",
        "Twins-SVT: self-attention inside windows, GELU MLP",
        "Chu et al., Twins, arXiv 2104.13840",
        {**BLOCK, "window": OptionRule(int, 7, 1, "side of a window"), **HEADS, **MLP4},
        multiple_of="window",
        divisor="head_dim",
        reshape="Twins downsamples between stages, with a patch embedding",
    ),
    "block/poolformer": ModelInfo(
        "PoolFormer",
        "Average pooling as token mixer, GroupNorm, GELU MLP",
        "Yu et al., PoolFormer, arXiv 2111.11418",
        {
            **BLOCK,
            **MLP4,
            "count_padding": OptionRule(
                bool, False, 0, "average over the padding too, which makes the pooling a convolution"
            ),
        },
        minimum_channels=2,  # GroupNorm over a single value is undefined
        reshape="PoolFormer downsamples between stages, with a 3x3 convolution",
    ),
    "block/mbconv": ModelInfo(
        "MobileNetV2",
        "Inverted residual: 1x1 expansion, depthwise 3x3, linear 1x1, ReLU6",
        "Sandler et al., MobileNetV2, arXiv 1801.04381",
        {**BLOCK, "expansion": OptionRule(float, 6.0, 1, "hidden channels per input channel")},
    ),
    "block/repvgg": ModelInfo(
        "RepVGG",
        "3x3, 1x1 and identity branch, one 3x3 convolution when fused",
        "Ding et al., RepVGG, arXiv 2101.03697",
        BLOCK,
    ),
    "block/mobileone": ModelInfo(
        "MobileOne",
        "Over-parameterized depthwise and pointwise convolution, one each when fused",
        "Vasu et al., MobileOne, arXiv 2206.04040",
        {**BLOCK, "branches": OptionRule(int, 4, 1, "parallel convolutions in each part")},
    ),
    "block/efficientformer4d": ModelInfo(
        "EfficientFormer",
        "MB4D: average pooling as token mixer, BatchNorm, GELU MLP",
        "Li et al., EfficientFormer, arXiv 2206.01191",
        {**BLOCK, **MLP4},
        reshape="EfficientFormer downsamples between stages, with a 3x3 convolution",
    ),
}
