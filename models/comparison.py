"""Facts about the networks that Next-ViT is compared with and that are written here: timm has none of them.

`params_m` and `gmacs` are counted from what is built, at the default resolution. One line a network, in the
order of `models.MODELS`.
"""

from __future__ import annotations

from models.facts import NETWORK, ModelInfo

MOBILEVIG = ("MobileViG", "Munir et al., MobileViG, arXiv 2307.00395")
EFFICIENTMOD = ("EfficientMod", "Ma et al., Efficient Modulation, arXiv 2403.19963")
FCAFORMER = ("FcaFormer", "Zhang et al., FcaFormer, arXiv 2211.07198")
CSWIN = ("CSWin", "Dong et al., CSWin Transformer, arXiv 2107.00652")
VCMAMBA = ("VCMamba", "Munir et al., VCMamba, arXiv 2509.04669")
PVT = ("PVT", "Wang et al., Pyramid Vision Transformer, arXiv 2102.12122")
PLAINMAMBA = ("PlainMamba", "Yang et al., PlainMamba, arXiv 2403.17695")
MOBILE_FORMER = ("Mobile-Former", "Chen et al., Mobile-Former, arXiv 2108.05895")
PYRAMID_VIG = ("Pyramid ViG", "Han et al., Vision GNN, arXiv 2206.00272")


def _network(
    family: tuple[str, str],
    description: str,
    *,
    params_m: float,
    gmacs: float,
    multiple_of: int = 1,
    fixed_resolution: bool = False,
) -> ModelInfo:
    return ModelInfo(
        family[0],
        description,
        family[1],
        NETWORK,
        224,
        32,
        multiple_of=multiple_of,
        fixed_resolution=fixed_resolution,
        params_m=params_m,
        gmacs=gmacs,
    )


COMPARED: dict[str, ModelInfo] = {
    "mobilevig_ti": _network(MOBILEVIG, "MobileViG-Ti", params_m=5.25, gmacs=0.66),
    "mobilevig_s": _network(MOBILEVIG, "MobileViG-S", params_m=7.25, gmacs=0.98),
    "mobilevig_m": _network(MOBILEVIG, "MobileViG-M", params_m=14.04, gmacs=1.49),
    "mobilevig_b": _network(MOBILEVIG, "MobileViG-B", params_m=26.81, gmacs=2.79),
    "efficientmod_xxs": _network(EFFICIENTMOD, "EfficientMod-xxs", params_m=4.74, gmacs=0.58),
    "efficientmod_xs": _network(EFFICIENTMOD, "EfficientMod-xs", params_m=6.63, gmacs=0.77),
    "efficientmod_s": _network(EFFICIENTMOD, "EfficientMod-s", params_m=12.90, gmacs=1.40),
    "efficientmod_s_conv": _network(EFFICIENTMOD, "EfficientMod-s-Conv", params_m=12.87, gmacs=1.47),
    "fcaformer_l1": _network(FCAFORMER, "FcaFormer-L1", params_m=6.19, gmacs=1.37, fixed_resolution=True),
    "fcaformer_l2": _network(FCAFORMER, "FcaFormer-L2", params_m=16.28, gmacs=3.60, fixed_resolution=True),
    "fcaformer_l3": _network(FCAFORMER, "FcaFormer-L3", params_m=27.89, gmacs=6.65, fixed_resolution=True),
    "fcaformer_l4": _network(FCAFORMER, "FcaFormer-L4", params_m=65.64, gmacs=14.49, fixed_resolution=True),
    "cswin_tiny": _network(CSWIN, "CSWin-T", params_m=22.32, gmacs=4.32, multiple_of=112),
    "cswin_small": _network(CSWIN, "CSWin-S", params_m=34.64, gmacs=6.80, multiple_of=112),
    "cswin_base": _network(CSWIN, "CSWin-B", params_m=77.38, gmacs=14.96, multiple_of=112),
    "pvt_tiny": _network(PVT, "PVT-Tiny", params_m=13.23, gmacs=1.93, multiple_of=32),
    "pvt_small": _network(PVT, "PVT-Small", params_m=24.49, gmacs=3.82, multiple_of=32),
    "pvt_medium": _network(PVT, "PVT-Medium", params_m=44.21, gmacs=6.66, multiple_of=32),
    "pvt_large": _network(PVT, "PVT-Large", params_m=61.37, gmacs=9.81, multiple_of=32),
    "vcmamba_s": _network(VCMAMBA, "VCMamba-S", params_m=10.44, gmacs=1.05, fixed_resolution=True),
    "vcmamba_m": _network(VCMAMBA, "VCMamba-M", params_m=21.01, gmacs=2.28, fixed_resolution=True),
    "vcmamba_b": _network(VCMAMBA, "VCMamba-B", params_m=31.38, gmacs=3.96, fixed_resolution=True),
    "plainmamba_l1": _network(PLAINMAMBA, "PlainMamba-L1", params_m=7.55, gmacs=2.08, fixed_resolution=True),
    "plainmamba_l2": _network(PLAINMAMBA, "PlainMamba-L2", params_m=26.15, gmacs=6.21, fixed_resolution=True),
    "plainmamba_l3": _network(
        PLAINMAMBA, "PlainMamba-L3", params_m=50.96, gmacs=11.17, fixed_resolution=True
    ),
    "mobile_former_508m": _network(MOBILE_FORMER, "Mobile-Former-508M", params_m=13.98, gmacs=0.50),
    "mobile_former_294m": _network(MOBILE_FORMER, "Mobile-Former-294M", params_m=11.42, gmacs=0.29),
    "mobile_former_214m": _network(MOBILE_FORMER, "Mobile-Former-214M", params_m=9.43, gmacs=0.21),
    "mobile_former_151m": _network(MOBILE_FORMER, "Mobile-Former-151M", params_m=7.60, gmacs=0.15),
    "mobile_former_96m": _network(MOBILE_FORMER, "Mobile-Former-96M", params_m=4.58, gmacs=0.09),
    "pyramid_vig_ti": _network(
        PYRAMID_VIG, "Pyramid ViG-Ti", params_m=10.69, gmacs=1.70, fixed_resolution=True
    ),
    "pyramid_vig_s": _network(
        PYRAMID_VIG, "Pyramid ViG-S", params_m=27.21, gmacs=4.55, fixed_resolution=True
    ),
    "pyramid_vig_m": _network(
        PYRAMID_VIG, "Pyramid ViG-M", params_m=49.45, gmacs=8.84, fixed_resolution=True
    ),
    "pyramid_vig_b": _network(
        PYRAMID_VIG, "Pyramid ViG-B", params_m=92.87, gmacs=16.80, fixed_resolution=True
    ),
}
