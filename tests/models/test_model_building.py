"""Building by name, and networks of a ModelSpec: equal for equal specs, with weights that hide nothing."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import models
from models.errors import CheckpointError, ModelError
from models.folding import fuse_all
from models.spec import ModelSpec
from models.tables import UnknownNameError

NCB = ModelSpec.of("block/ncb", resolution=14, in_channels=64)


def test_importing_the_package_is_light():
    code = (
        "import sys, models; models.ModelSpec, models.Case, models.MODELS\n"
        "heavy = ('torch', 'timm', 'numpy', 'safetensors', 'pandas', 'matplotlib', 'onnxruntime')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_build_gives_eval_mode():
    assert not models.build("nextvit_small").training
    assert not models.build("timm/mobilenetv2_050").training


def test_build_passes_options_on_to_timm():
    assert models.build("timm/mobilenetv2_050", num_classes=3)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["timm/mobilenetv2_5", "nextvit", "block/", "mobilenetv2_050", "timm/../x"])
def test_build_refuses_unknown_names(name):
    with pytest.raises(UnknownNameError, match="unknown model"):
        models.build(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm/mobilenetv2_050", {"nonsense": 3}, "nonsense=3"),
        ("timm/mobilenetv2_050", {"num_classes": "x"}, "num_classes='x'"),
        ("timm/mobilenetv2_050.no_such_tag", {}, "no_such_tag"),
        ("timm/vit_tiny_patch16_224", {"img_size": "big"}, "img_size='big'"),
        ("block/ncb", {"in_channels": 64}, "resolution must be given"),
        ("block/ncb", {"in_channels": None, "resolution": 14}, "in_channels=None"),
        ("block/ncb", {"in_channels": 64, "resolution": 14, "groups": 2}, "unknown option 'groups=2'"),
        ("nextvit_small", {"resolution": 224}, "unknown option"),
    ],
)
def test_build_names_the_bad_option(name, options, message):
    with pytest.raises(ModelError, match=message) as error:
        models.build(name, **options)
    assert name in str(error.value)


def test_none_means_the_default():
    net = models.build("block/ntb", in_channels=128, out_channels=None, reduction=None, resolution=14)
    assert net.e_mhsa.pool.kernel_size == (1, 4)


def test_equal_specs_give_equal_weights_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first, second = models.instantiate(NCB), models.instantiate(NCB)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_thread_count_changes_no_weight():
    spec = ModelSpec.of("timm/mobilenetv2_050", resolution=96)
    torch.set_num_threads(2)
    two = models.instantiate(spec)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    one = models.instantiate(spec)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_other_weights():
    other = models.instantiate(ModelSpec.of("block/ncb", resolution=14, in_channels=64, weights="random:1"))
    assert not torch.equal(other.mlp.conv1.weight, models.instantiate(NCB).mlp.conv1.weight)


def norms_and_scales(net: nn.Module) -> list[torch.Tensor]:
    found = [
        value
        for module in net.modules()
        for name, value in module.named_parameters(recurse=False)
        if "Norm" in type(module).__name__ or "gamma" in name or name == "scale"
    ]
    return [*found, *(m.running_mean for m in net.modules() if isinstance(m, _BatchNorm))]


@pytest.mark.parametrize(
    "name",
    [
        "nextvit_small",
        "timm/resnet50",
        "timm/convnext_tiny",
        "timm/efficientformer_l1",
        "timm/mobilevit_xxs",
        "timm/poolformer_s12",
        "timm/mobileone_s1",
        "timm/twins_svt_small",
        "timm/swin_tiny_patch4_window7_224",
    ],
)
def test_random_weights_are_random_and_outputs_sane(name):
    """Nothing at its initial value, outputs of ordinary size, and different for different inputs."""
    spec = ModelSpec.of(name, resolution=256 if "mobilevit" in name else 224)
    net = models.instantiate(spec)
    for value in norms_and_scales(net):
        assert value.unique().numel() > 1
        assert value.abs().max() < 1e3
    assert all(parameter.any() for parameter in net.parameters())
    largest = 0.0

    def watch(_module, _inputs, output):
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, float(output.abs().max()))

    for module in net.modules():
        module.register_forward_hook(watch)
    with torch.no_grad():
        output = net(torch.randn(spec.input_shape(3)))
    assert output.isfinite().all()
    assert 1e-2 < output.abs().max() < 1e3
    assert largest < 6e4  # fp16 ends at 65504
    assert output.std(dim=0).mean() > 0.02 * output.abs().mean()


def test_large_variant_stays_finite_in_half_precision():
    net = models.instantiate(ModelSpec.of("nextvit_large", resolution=64)).half()
    with torch.no_grad():
        assert net(torch.randn(2, 3, 64, 64).half()).isfinite().all()


def test_a_fusion_error_would_show():
    """Dropping any one BatchNorm of the network changes its output by far more than rounding."""
    net = models.instantiate(ModelSpec.of("nextvit_small", resolution=64))
    x = torch.randn(1, 3, 64, 64)
    names = [name for name, module in net.named_modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        expected = net(x)
        for name in names[::6]:
            norm = net.get_submodule(name)
            net.set_submodule(name, nn.Identity())
            assert (net(x) - expected).abs().max() > 1e-3 * expected.abs().max(), name
            net.set_submodule(name, norm)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ModelSpec.of("timm/swin_tiny_patch4_window7_224", resolution=256),
            "resolution=256.*no forward pass",
        ),
        (ModelSpec.of("timm/vit_tiny_patch16_224", resolution=160), "resolution=160"),
        (ModelSpec.of("timm/mobilenetv2_050", features_only=True), "output is a list"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_only_running_shows_is_a_model_error(spec, message):
    with pytest.raises(ModelError, match=message):
        models.instantiate(spec)


def test_an_image_size_that_timm_is_told_works():
    net = models.instantiate(ModelSpec.of("timm/vit_tiny_patch16_224", resolution=160, img_size=160))
    assert net(torch.zeros(1, 3, 160, 160)).shape == (1, 1000)


def checkpoint(tmp_path) -> tuple[object, str, nn.Module]:
    net = models.instantiate(NCB)
    path = tmp_path / "ncb.safetensors"
    save_file(net.state_dict(), path)
    return path, "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(), net


def test_checkpoint_of_the_named_sha256_is_loaded_as_it_is(tmp_path):
    path, digest, saved = checkpoint(tmp_path)
    state = torch.get_rng_state()
    net = models.instantiate(
        ModelSpec.of("block/ncb", resolution=14, in_channels=64, weights=digest), checkpoint=path
    )
    assert not net.training
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(net.state_dict().values(), saved.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_checkpoint_of_another_sha256_is_refused(tmp_path):
    path, digest, _ = checkpoint(tmp_path)
    spec = ModelSpec.of("block/ncb", resolution=14, in_channels=64, weights=digest)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="the spec names"):
        models.instantiate(spec, checkpoint=path)
    with pytest.raises(CheckpointError, match="no such file"):
        models.instantiate(spec, checkpoint=tmp_path / "none.safetensors")


def test_weights_and_checkpoint_must_go_together(tmp_path):
    path, digest, _ = checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="need their file"):
        models.instantiate(ModelSpec.of("block/ncb", resolution=14, in_channels=64, weights=digest))
    with pytest.raises(CheckpointError, match="random weights have none"):
        models.instantiate(NCB, checkpoint=path)


def test_blocks_of_one_position_and_one_channel_are_sane():
    """Nothing varies over one position, so the statistics need their lower bound."""
    for name in ("block/mobileone", "block/repvgg", "block/mbconv", "block/bottleneck"):
        spec = ModelSpec.of(name, resolution=1, in_channels=4)
        net, x = models.instantiate(spec), torch.randn(spec.input_shape(5))
        with torch.no_grad():
            assert net(x).isfinite().all()
            assert net(x).abs().max() < math.inf
            torch.testing.assert_close(fuse_all(net)(x), net(x), rtol=1e-4, atol=1e-4)
