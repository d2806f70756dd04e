"""The table of facts against the built models, and requests that are refused before anything is built."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from models.comparison import COMPARED
from models.counting import count
from models.errors import ModelError, UnknownModelError
from models.info import INFO, check
from models.spec import ModelSpec
from models.tables import UnknownNameError, lookup

SHA = "sha256:" + "a" * 64


def test_every_model_has_facts_and_the_other_way_round():
    assert list(INFO) == list(models.MODELS)


@pytest.mark.parametrize("name", INFO)
def test_facts_are_complete(name):
    info = INFO[name]
    assert info.family
    assert info.description
    assert "arXiv" in info.paper or name.startswith("peak/")
    assert (info.params_m is None) == (info.gmacs is None) == name.startswith("block/")


@pytest.mark.parametrize("name", INFO)
def test_option_table_is_the_builders_signature(name):
    parameters = inspect.signature(lookup(models.MODELS, "models", name)).parameters
    assert set(parameters) == set(INFO[name].options)
    for option, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        assert default == INFO[name].options[option].default


NETWORKS = [
    pytest.param(name, marks=pytest.mark.slow) if name in COMPARED and info.params_m > 15 else name
    for name, info in INFO.items()
    if not name.startswith("block/")
]


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_in_the_table(name):
    """On the meta device: shapes are enough to count, and nothing is computed."""
    side = INFO[name].resolution
    with torch.device("meta"):
        net = models.build(name)
    counts = count(net, (1, 3, side, side))
    assert INFO[name].params_m == pytest.approx(counts.params_m, abs=0.006)
    assert INFO[name].gmacs == pytest.approx(counts.gmacs, abs=0.006)


def test_checking_imports_neither_torch_nor_timm():
    code = (
        "import sys, models; from models.info import check; from models.spec import ModelSpec\n"
        "check(ModelSpec.of('block/ntb', resolution=14, in_channels=512))\n"
        "check(ModelSpec.of('timm/resnet50'))\n"
        "heavy = ('torch', 'timm', 'torchvision', 'pandas', 'matplotlib', 'onnxruntime')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec.of("nextvit_small"),
        ModelSpec.of("nextvit_base", resolution=384, num_classes=10, in_chans=1),
        ModelSpec.of("nextvit_small", resolution=201),
        ModelSpec.of("nextvit_small", weights=SHA),
        ModelSpec.of("timm/resnet50.a1_in1k", resolution=176, weights="random:7"),
        ModelSpec.of("block/ncb", resolution=15, in_channels=7, out_channels=64, stride=2, mlp_ratio=2),
        ModelSpec.of("block/ntb", resolution=28, in_channels=192, out_channels=256, stride=2, reduction=14),
        ModelSpec.of("block/lsa", resolution=21, in_channels=96),
        ModelSpec.of("block/lsa", resolution=8, in_channels=96, window=8, head_dim=48),
        ModelSpec.of("block/poolformer", resolution=14, in_channels=5, count_padding=True),
    ],
    ids=lambda spec: spec.name,
)
def test_what_can_be_built_passes(spec):
    check(spec)


REFUSED = [
    (ModelSpec.of("nextvit_smal"), "did you mean nextvit_small"),
    (ModelSpec.of("timm/resnet5"), "did you mean.* timm/resnet5"),
    (ModelSpec.of("resnet50"), "timm/resnet50"),
    (ModelSpec.of(""), "unknown model ''"),
    (ModelSpec.of("timm/"), "unknown model 'timm/'"),
    (ModelSpec.of("block/nbc", in_channels=64), "did you mean .*block/ncb"),
    (
        ModelSpec.of("nextvit_small", num_clases=10),
        "unknown option 'num_clases=10': did you mean num_classes",
    ),
    (ModelSpec.of("nextvit_small", num_classes=0), "num_classes=0: must be an integer of at least 1"),
    (ModelSpec.of("nextvit_small", num_classes="ten"), "num_classes='ten': must be an integer"),
    (ModelSpec.of("nextvit_small", num_classes=True), "num_classes=True: must be an integer"),
    (ModelSpec.of("nextvit_small", num_classes=10.0), "num_classes=10.0: must be an integer"),
    (ModelSpec.of("nextvit_small", resolution=31), "resolution=31: must be an integer of at least 32"),
    (ModelSpec.of("fcaformer_l1", resolution=256), "resolution=256: must be 224: its positions are learned"),
    (ModelSpec.of("cswin_tiny", resolution=256), "multiple of 112 of at least 112, such as 224 or 336"),
    (ModelSpec.of("pvt_tiny", resolution=230), "resolution=230: .*such as 224 or 256"),
    (ModelSpec.of("timm/resnet50", resolution=0), "resolution=0"),
    (ModelSpec.of("timm/resnet50", resolution=-224), "resolution=-224"),
    (ModelSpec.of("timm/resnet50", in_chans="RGB"), "in_chans='RGB'"),
    (ModelSpec.of("timm/resnet50", pretrained=True), "pretrained"),
    (ModelSpec.of("nextvit_small", weights="random"), "weights='random': must be random:SEED"),
    (ModelSpec.of("nextvit_small", weights="random:-1"), "random:-1"),
    (ModelSpec.of("nextvit_small", weights="sha256:abc"), "64 hexadecimal"),
    (ModelSpec.of("block/ncb", resolution=14), "in_channels must be given"),
    (ModelSpec.of("block/ncb", in_channels=64, stride=3), "stride=3: must be 1 or 2"),
    (ModelSpec.of("block/ncb", in_channels=64, stride=0), "stride=0"),
    (
        ModelSpec.of("block/ncb", in_channels=48),
        "out_channels=48: must be a multiple of 32 of at least 32, such as 32 or 64",
    ),
    (ModelSpec.of("block/ncb", in_channels=10), "multiple of 32 of at least 32, such as 32"),
    (
        ModelSpec.of("block/ncb", in_channels=64, mlp_ratio=0),
        "mlp_ratio=0: must be a number of at least 0.25",
    ),
    (ModelSpec.of("block/ncb", in_channels=64, mlp_ratio=float("nan")), "mlp_ratio=nan"),
    (ModelSpec.of("block/ncb", in_channels=64, mlp_ratio=float("inf")), "mlp_ratio=inf"),
    (ModelSpec.of("block/ntb", in_channels=32), "out_channels=32: .*at least 64, such as 64"),
    (ModelSpec.of("block/poolformer", in_channels=1), "must be an integer of at least 2, such as 2"),
    (
        ModelSpec.of("block/ntb", resolution=14, in_channels=256, reduction=15),
        "reduction=15: must be at most 14",
    ),
    (ModelSpec.of("block/ntb", resolution=14, in_channels=256, stride=2, reduction=8), "at most 7"),
    (ModelSpec.of("block/bottleneck", in_channels=66), "multiple of 4 of at least 4, such as 64 or 68"),
    (ModelSpec.of("block/transformer", in_channels=80), "multiple of 32"),
    (ModelSpec.of("block/transformer", in_channels=96, head_dim=64), "multiple of 64"),
    (
        ModelSpec.of("block/lsa", resolution=16, in_channels=96),
        "resolution=16: .*multiple of 7 of at least 7, such as 14 or 21",
    ),
    (ModelSpec.of("block/lsa", resolution=6, in_channels=96), "such as 7"),
    (
        ModelSpec.of("block/convnext", in_channels=96, stride=2),
        "LayerNorm and a 2x2 convolution.*use stride 1",
    ),
    (ModelSpec.of("block/convnext", in_channels=96, out_channels=192), "keeps its shape"),
    (ModelSpec.of("block/poolformer", in_channels=96, stride=2), "3x3 convolution"),
    (
        ModelSpec.of("block/poolformer", in_channels=96, count_padding=1),
        "count_padding=1: must be true or false",
    ),
    (ModelSpec.of("block/efficientformer4d", in_channels=96, stride=2), "keeps its shape"),
    (ModelSpec.of("block/transformer", in_channels=96, stride=2), "keeps its shape"),
    (ModelSpec.of("block/lsa", resolution=14, in_channels=96, stride=2), "keeps its shape"),
    (ModelSpec.of("block/mobileone", in_channels=96, branches=0), "branches=0"),
    (ModelSpec.of("block/mbconv", in_channels=96, expansion="6"), "expansion='6': must be a number"),
]


@pytest.mark.parametrize(
    ("spec", "message"), REFUSED, ids=lambda value: str(getattr(value, "name", value))[:40]
)
def test_what_cannot_be_built_is_refused_early(spec, message):
    with pytest.raises(ModelError, match=f"(?s){message}") as error:
        check(spec)
    assert spec.name in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"), REFUSED, ids=lambda value: str(getattr(value, "name", value))[:40]
)
def test_instantiate_refuses_the_same(spec, message):
    with pytest.raises(ModelError, match=f"(?s){message}"):
        models.instantiate(spec)


def test_unknown_names_are_both_errors():
    with pytest.raises(UnknownNameError):
        check(ModelSpec.of("nextvit_tiny"))
    assert issubclass(UnknownModelError, ModelError)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([name for name in INFO if name.startswith("block/")]),
    st.integers(1, 200),
    st.one_of(st.none(), st.integers(1, 200)),
    st.integers(0, 3),
    st.integers(1, 30),
)
def test_what_passes_the_check_builds_and_runs(name, in_channels, out_channels, stride, resolution):
    """No request passes the check and fails later: the check is complete."""
    options = {"in_channels": in_channels, "stride": stride}
    if out_channels is not None:
        options["out_channels"] = out_channels
    spec = ModelSpec.of(name, resolution=resolution, **options)
    try:
        check(spec)
    except ModelError:
        with pytest.raises(ModelError):
            models.build(name, **spec.build_options())
        return
    side = -(-resolution // stride)
    with torch.no_grad():
        output = models.build(name, **spec.build_options())(torch.zeros(spec.input_shape(1)))
    assert output.shape == (1, out_channels or in_channels, side, side)
