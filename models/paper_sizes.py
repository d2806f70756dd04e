"""Sizes of the networks that Next-ViT is compared with, as their papers print them.

A test builds every one and counts again: within 2 %, or the rounding of the printed digits. Where a paper
prints something else than its network has, `off` says by how much and `why`, and the bar stays where it is.
Counted are multiply-accumulates, which these papers call FLOPs, for one image of `resolution`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BUILT, FUSED = "built", "fused"


@dataclass(frozen=True, slots=True)
class PaperSize:
    """What is printed of one network, digits as printed.

    `form`: the counts are of the network as it is built for training, or of the fused one. `products`:
    whether the multiply-accumulates hold those of attention, where two activations are multiplied. `off`: the
    share by which what is built has more (less where negative) `params_m` or `gmacs` than printed, where it
    is past 2 %.

    `classifier`: whether the parameters hold the classifier's. `elementwise`: operations per output value, by
    class of module, that the printed multiply-accumulates hold beside what is counted here.
    """

    model: str
    params_m: str
    gmacs: str
    source: str
    resolution: int = 224
    form: str = BUILT
    products: bool = True
    classifier: bool = True
    elementwise: Mapping[str, int] = field(default_factory=dict)
    off: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


NEXTVIT = "Next-ViT, arXiv 2207.05501, and its README's classification table"
MOBILEVIG = "MobileViG, arXiv 2307.00395"
EFFICIENTMOD = "EfficientMod, arXiv 2403.19963, table 1"
FCAFORMER = "FcaFormer, arXiv 2211.07198"
CSWIN = "CSWin, arXiv 2107.00652"
PVT = "PVT, arXiv 2102.12122"
PVT_V2 = "PVTv2, arXiv 2106.13797; parameters from its README"
VCMAMBA = "VCMamba, arXiv 2509.04669"
PLAINMAMBA = "PlainMamba, arXiv 2403.17695"
MOBILE_FORMER = "Mobile-Former, arXiv 2108.05895; parameters from its README"
PYRAMID_VIG = "Vision GNN, arXiv 2206.00272; README of its code"
RESNET = "torchvision's table of weights: the v1.5 form, with the stride in the 3x3 convolution"
CONVNEXT = "ConvNeXt, arXiv 2201.03545"
SWIN = "Swin, arXiv 2103.14030"
TWINS = "Twins README"
POOLFORMER = "PoolFormer README"
EFFICIENTFORMER = "EfficientFormer, arXiv 2206.01191"
EFFICIENTFORMER_V2 = "EfficientFormerV2 README"
MOBILENET_V2 = "MobileNetV2, arXiv 1801.04381, table 4"
MOBILEVIT = "MobileViTv2, arXiv 2206.02680, table 2"
REPVIT = "RepViT, arXiv 2307.09283"
FASTVIT = "FastViT, arXiv 2303.14189"
MOBILEONE = "MobileOne, arXiv 2206.04040"
SHVIT = "SHViT, arXiv 2401.16456"
SWIFTFORMER = "SwiftFormer, arXiv 2303.15446"

ROUNDED_UP = "the paper rounds 22.32 up to 23"
SCAN = "elementwise work is not counted here, and a selective scan is mostly that"
FIXED_CLOSENESS = "the printed number holds the fixed closeness of positions, 2.16 M; Ti and S leave it out"
ONE_DIGIT = "the widths and depths that give its GMACs give 92.9: a digit of the README has probably slipped"
WIDE_HEAD = "timm's takes the published weights; the printed number fits a classifier of half its inputs"

# PlainMamba counts nine operations for each of 16 states and one for the skip, in each of four scans; the
# product of states and C, one of the nine, is counted here too. Mobile-Former's digits are met with one
# operation per value of a BatchNorm and of a dynamic ReLU.
SCANS = {"SnakeScan": 4 * (9 * 16 + 1) - 4 * 16}
NORMS_AND_SLOPES = {"BatchNorm2d": 1, "DynamicReLU": 1}


def _fastvit(model: str, params_m: str, gmacs: str, more: float) -> PaperSize:
    return PaperSize(model, params_m, gmacs, FASTVIT, 256, form=FUSED, off={"params_m": more}, why=WIDE_HEAD)


def _plainmamba(model: str, params_m: str, gmacs: str) -> PaperSize:
    return PaperSize(model, params_m, gmacs, PLAINMAMBA, classifier=False, elementwise=SCANS)


def _mobile_former(model: str, params_m: str, gmacs: str) -> PaperSize:
    return PaperSize(model, params_m, gmacs, MOBILE_FORMER, elementwise=NORMS_AND_SLOPES)


PAPER_SIZES: tuple[PaperSize, ...] = (
    PaperSize("nextvit_small", "31.7", "5.8", NEXTVIT),
    PaperSize("nextvit_base", "44.8", "8.3", NEXTVIT),
    PaperSize("nextvit_large", "57.8", "10.8", NEXTVIT),
    PaperSize("nextvit_small", "31.7", "17.3", NEXTVIT, 384),
    PaperSize("nextvit_base", "44.8", "24.6", NEXTVIT, 384),
    PaperSize("nextvit_large", "57.8", "32.0", NEXTVIT, 384),
    PaperSize("mobilevig_ti", "5.2", "0.7", MOBILEVIG),
    PaperSize("mobilevig_s", "7.2", "1.0", MOBILEVIG),
    PaperSize("mobilevig_m", "14.0", "1.5", MOBILEVIG),
    PaperSize("mobilevig_b", "26.7", "2.8", MOBILEVIG),
    PaperSize("efficientmod_xxs", "4.7", "0.6", EFFICIENTMOD),
    PaperSize("efficientmod_xs", "6.6", "0.8", EFFICIENTMOD),
    PaperSize("efficientmod_s", "12.9", "1.4", EFFICIENTMOD),
    PaperSize("efficientmod_s_conv", "12.9", "1.5", EFFICIENTMOD),
    PaperSize("fcaformer_l1", "6.2", "1.4", FCAFORMER),
    PaperSize("fcaformer_l2", "16.3", "3.6", FCAFORMER),
    PaperSize("fcaformer_l3", "28", "6.7", FCAFORMER),
    PaperSize("fcaformer_l4", "66", "14.5", FCAFORMER),
    PaperSize("cswin_tiny", "23", "4.3", CSWIN, off={"params_m": -0.030}, why=ROUNDED_UP),
    PaperSize("cswin_small", "35", "6.9", CSWIN),
    PaperSize("cswin_base", "78", "15.0", CSWIN),
    PaperSize("pvt_tiny", "13.2", "1.9", PVT),
    PaperSize("pvt_small", "24.5", "3.8", PVT),
    PaperSize("pvt_medium", "44.2", "6.7", PVT),
    PaperSize("pvt_large", "61.4", "9.8", PVT),
    PaperSize("vcmamba_s", "10.5", "1.1", VCMAMBA, off={"gmacs": -0.046}, why=SCAN),
    PaperSize("vcmamba_m", "21.0", "2.3", VCMAMBA),
    PaperSize("vcmamba_b", "31.5", "4.0", VCMAMBA),
    _plainmamba("plainmamba_l1", "7.3", "3.0"),
    _plainmamba("plainmamba_l2", "25.7", "8.1"),
    _plainmamba("plainmamba_l3", "50.5", "14.4"),
    _mobile_former("mobile_former_508m", "14.0", "0.508"),
    _mobile_former("mobile_former_294m", "11.4", "0.294"),
    _mobile_former("mobile_former_214m", "9.4", "0.214"),
    _mobile_former("mobile_former_151m", "7.6", "0.151"),
    _mobile_former("mobile_former_96m", "4.6", "0.096"),
    PaperSize("pyramid_vig_ti", "10.7", "1.7", PYRAMID_VIG),
    PaperSize("pyramid_vig_s", "27.3", "4.6", PYRAMID_VIG),
    PaperSize("pyramid_vig_m", "51.7", "8.9", PYRAMID_VIG, off={"params_m": -0.043}, why=FIXED_CLOSENESS),
    PaperSize("pyramid_vig_b", "82.6", "16.8", PYRAMID_VIG, off={"params_m": 0.124}, why=ONE_DIGIT),
    PaperSize("timm/resnet50", "25.6", "4.09", RESNET),
    PaperSize("timm/resnet101", "44.5", "7.80", RESNET),
    PaperSize("timm/resnet152", "60.2", "11.51", RESNET),
    PaperSize("timm/convnext_tiny", "29", "4.5", CONVNEXT),
    PaperSize("timm/convnext_small", "50", "8.7", CONVNEXT),
    PaperSize("timm/convnext_base", "89", "15.4", CONVNEXT),
    PaperSize("timm/swin_tiny_patch4_window7_224", "28", "4.5", SWIN),
    PaperSize("timm/swin_small_patch4_window7_224", "50", "8.7", SWIN),
    PaperSize("timm/swin_base_patch4_window7_224", "88", "15.4", SWIN),
    PaperSize("timm/twins_svt_small", "24", "2.8", TWINS, products=False),
    PaperSize("timm/twins_svt_base", "56", "8.3", TWINS, products=False),
    PaperSize("timm/twins_svt_large", "99.2", "14.8", TWINS, products=False),
    PaperSize("timm/twins_pcpvt_small", "24.1", "3.7", TWINS, products=False),
    PaperSize("timm/twins_pcpvt_base", "43.8", "6.4", TWINS, products=False),
    PaperSize("timm/twins_pcpvt_large", "60.9", "9.5", TWINS, products=False),
    PaperSize("timm/pvt_v2_b0", "3.7", "0.6", PVT_V2),
    PaperSize("timm/pvt_v2_b1", "14.0", "2.1", PVT_V2),
    PaperSize("timm/pvt_v2_b2", "25.4", "4.0", PVT_V2),
    PaperSize("timm/pvt_v2_b2_li", "22.6", "3.9", PVT_V2),
    PaperSize("timm/pvt_v2_b3", "45.2", "6.9", PVT_V2),
    PaperSize("timm/pvt_v2_b4", "62.6", "10.1", PVT_V2),
    PaperSize("timm/pvt_v2_b5", "82.0", "11.8", PVT_V2),
    PaperSize("timm/poolformer_s12", "12", "1.8", POOLFORMER),
    PaperSize("timm/poolformer_s24", "21", "3.4", POOLFORMER),
    PaperSize("timm/poolformer_s36", "31", "5.0", POOLFORMER),
    PaperSize("timm/poolformer_m36", "56", "8.8", POOLFORMER),
    PaperSize("timm/poolformer_m48", "73", "11.6", POOLFORMER),
    PaperSize("timm/efficientformer_l1", "12.3", "1.3", EFFICIENTFORMER),
    PaperSize("timm/efficientformer_l3", "31.3", "3.9", EFFICIENTFORMER),
    PaperSize("timm/efficientformer_l7", "82.1", "10.2", EFFICIENTFORMER),
    PaperSize("timm/efficientformerv2_s0", "3.5", "0.40", EFFICIENTFORMER_V2, form=FUSED),
    PaperSize("timm/efficientformerv2_s1", "6.1", "0.65", EFFICIENTFORMER_V2, form=FUSED),
    PaperSize("timm/efficientformerv2_s2", "12.6", "1.25", EFFICIENTFORMER_V2, form=FUSED),
    PaperSize("timm/efficientformerv2_l", "26.1", "2.56", EFFICIENTFORMER_V2, form=FUSED),
    PaperSize(
        "timm/mobilenetv2_100",
        "3.4",
        "0.300",
        MOBILENET_V2,
        off={"params_m": 0.031},
        why="3.47 without the BatchNorms, cut to 3.4",
    ),
    PaperSize(
        "timm/mobilenetv2_140",
        "6.9",
        "0.585",
        MOBILENET_V2,
        off={"params_m": -0.115},
        why="others count 6.1, as here; the authors' own list of checkpoints says 6.06",
    ),
    PaperSize("timm/mobilevit_xxs", "1.3", "0.4", MOBILEVIT, 256),
    PaperSize(
        "timm/mobilevit_xs",
        "2.3",
        "0.986",
        "SHViT, arXiv 2401.16456, table 2; MobileViT's own paper prints none",
        256,
        off={"gmacs": 0.041},
        why="papers print 0.7 (SwiftFormer), 0.986 (SHViT) and 1.1 (EfficientMod) for it",
    ),
    PaperSize("timm/mobilevit_s", "5.6", "2.0", MOBILEVIT, 256),
    PaperSize("timm/mobilevitv2_050", "1.4", "0.5", MOBILEVIT, 256),
    PaperSize("timm/mobilevitv2_100", "4.9", "1.8", MOBILEVIT, 256),
    PaperSize("timm/mobilevitv2_150", "10.6", "4.0", MOBILEVIT, 256),
    PaperSize(
        "timm/mobilevitv2_200",
        "18.5",
        "7.5",
        MOBILEVIT,
        256,
        off={"gmacs": -0.046},
        why="unexplained: parameters and the other widths agree",
    ),
    PaperSize("timm/repvit_m0_9", "5.1", "0.8", REPVIT, form=FUSED),
    PaperSize("timm/repvit_m1_0", "6.8", "1.1", REPVIT, form=FUSED),
    PaperSize("timm/repvit_m1_1", "8.2", "1.3", REPVIT, form=FUSED),
    PaperSize("timm/repvit_m1_5", "14.0", "2.3", REPVIT, form=FUSED),
    PaperSize("timm/repvit_m2_3", "22.9", "4.5", REPVIT, form=FUSED),
    _fastvit("timm/fastvit_t8", "3.6", "0.7", 0.109),
    _fastvit("timm/fastvit_t12", "6.8", "1.4", 0.103),
    _fastvit("timm/fastvit_s12", "8.8", "1.8", 0.071),
    _fastvit("timm/fastvit_sa12", "10.9", "1.9", 0.059),
    _fastvit("timm/fastvit_sa24", "20.6", "3.8", 0.043),
    PaperSize("timm/mobileone_s0", "2.1", "0.275", MOBILEONE, form=FUSED),
    PaperSize("timm/mobileone_s1", "4.8", "0.825", MOBILEONE, form=FUSED),
    PaperSize("timm/mobileone_s2", "7.8", "1.299", MOBILEONE, form=FUSED),
    PaperSize("timm/mobileone_s3", "10.1", "1.896", MOBILEONE, form=FUSED),
    PaperSize("timm/mobileone_s4", "14.8", "2.978", MOBILEONE, form=FUSED),
    PaperSize("timm/shvit_s1", "6.3", "0.241", SHVIT),
    PaperSize("timm/shvit_s2", "11.4", "0.366", SHVIT),
    PaperSize("timm/shvit_s3", "14.2", "0.601", SHVIT),
    PaperSize("timm/shvit_s4", "16.5", "0.986", SHVIT, 256),
    PaperSize("timm/swiftformer_xs", "3.5", "0.6", SWIFTFORMER),
    PaperSize("timm/swiftformer_s", "6.1", "1.0", SWIFTFORMER),
    PaperSize("timm/swiftformer_l1", "12.1", "1.6", SWIFTFORMER),
    PaperSize("timm/swiftformer_l3", "28.5", "4.0", SWIFTFORMER),
)
