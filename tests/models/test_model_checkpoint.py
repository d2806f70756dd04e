"""Checkpoints: every naming in circulation, and everything that a bad file can be."""

from __future__ import annotations

import argparse
import copy
import os
import pickle
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.nextvit import checkpoint_filter_fn

import models
from models.checkpoint import load_checkpoint, read
from models.errors import CheckpointError, ModelError


def official(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Next-ViT-S state dict of timm under the official code's names, in its order."""
    starts = [0, 3, 7, 17]

    def rename(name: str) -> str:
        name = re.sub(
            r"stages\.(\d)\.blocks\.(\d+)", lambda m: f"features.{starts[int(m[1])] + int(m[2])}", name
        )
        return name.replace("mlp.fc", "mlp.conv").replace("head.fc", "proj_head.0")

    return {rename(name): tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def timm_net():
    torch.manual_seed(0)
    net = timm.create_model("nextvit_small", num_classes=7).eval()
    for module in net.modules():
        if "BatchNorm" in type(module).__name__:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return net


def ours() -> torch.nn.Module:
    return models.build("nextvit_small", num_classes=7)


def assert_equals(net: torch.nn.Module, theirs: torch.nn.Module) -> None:
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_official_names_are_those_that_timm_reads(timm_net):
    """timm maps an official file by order: our renaming, put through it, must give timm's weights back."""
    state = timm_net.state_dict()
    back = checkpoint_filter_fn(official(state), timm_net)
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert "features.0.mhca.group_conv3x3.weight" in official(state)
    assert "features.19.e_mhsa.q.weight" in official(state)
    assert "proj_head.0.weight" in official(state)


@pytest.mark.parametrize("naming", ["official", "timm"])
@pytest.mark.parametrize(
    "form", ["model.pth", "state_dict.pt", "plain.pth", "parallel.tar", "plain.safetensors"]
)
def test_loads_every_naming_and_form(timm_net, tmp_path, naming, form):
    state = timm_net.state_dict()
    state = official(state) if naming == "official" else state
    path, wrapper = tmp_path / form, form.partition(".")[0]
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif wrapper == "plain":
        torch.save(state, path)
    elif wrapper == "parallel":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        torch.save({wrapper: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, path)
    net = ours()
    models.load_checkpoint(net, path)
    assert not net.training
    assert_equals(net, timm_net)


def test_loads_what_it_saved(timm_net, tmp_path):
    net, again = ours(), ours()
    net.load_state_dict(net.checkpoint_names(timm_net.state_dict()))
    save_file(net.state_dict(), tmp_path / "ours.safetensors")
    models.load_checkpoint(again, str(tmp_path / "ours.safetensors"))
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_files_without_batch_counters_load(timm_net, tmp_path):
    state = {k: v for k, v in timm_net.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    net = ours()
    models.load_checkpoint(net, tmp_path / "old.pth")
    assert_equals(net, timm_net)


def test_timm_models_and_blocks_load_their_own(tmp_path):
    for name, options in (("timm/mobilenetv2_050", {}), ("block/ncb", {"in_channels": 32, "resolution": 7})):
        source, target = models.build(name, **options), models.build(name, **options)
        path = tmp_path / f"{name.replace('/', '_')}.safetensors"
        save_file(source.state_dict(), path)
        models.load_checkpoint(target, path)
        for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def small() -> torch.nn.Module:
    return models.build("block/ncb", in_channels=32, resolution=7)


def test_moving_average_only_where_asked_for(tmp_path):
    weights, average, net = small().state_dict(), small().state_dict(), small()
    path = tmp_path / "both.pth"
    torch.save({"model": weights, "model_ema": average, "epoch": 1}, path)
    models.load_checkpoint(net, path)
    assert torch.equal(net.mlp.conv1.weight, weights["mlp.conv1.weight"])
    models.load_checkpoint(net, path, ema=True)
    assert torch.equal(net.mlp.conv1.weight, average["mlp.conv1.weight"])
    torch.save({"model": weights}, path)
    with pytest.raises(CheckpointError, match="no moving average"):
        models.load_checkpoint(net, path, ema=True)


def test_a_file_with_only_an_average_gives_it(tmp_path):
    average, net = small().state_dict(), small()
    torch.save({"state_dict_ema": average}, tmp_path / "ema.pth")
    models.load_checkpoint(net, tmp_path / "ema.pth")
    assert torch.equal(net.mlp.conv1.weight, average["mlp.conv1.weight"])


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"model": small().state_dict(), "extra": Evil(marker)}, tmp_path / "evil.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Evil(marker)))
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil(marker), protocol=2))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(CheckpointError, match=r"run code \(posix\.system\).*safetensors"):
            load_checkpoint(small(), tmp_path / name)
    with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
        load_checkpoint(small(), tmp_path / "raw.pth")
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(small(), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(small(), tmp_path / "module.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [1, 7, 9, 100, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, keep):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    state = small().state_dict()
    save_file(state, whole) if suffix == ".safetensors" else torch.save(state, whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(CheckpointError, match=r"cut\."):
        load_checkpoint(small(), cut)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"hello, I am text\n",
        bytes(range(256)) * 9,
        b"\x80\x02}q\x00.",
        b"PK\x03\x04junk",
        b"{}",
        b"\x00" * 64,
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, suffix, content):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="junk"):
        load_checkpoint(small(), path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(small().state_dict(), path)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        broken = bytearray(content)
        for position in torch.randint(0, 4000, (4,), generator=generator).tolist():
            broken[position] ^= 0xFF
        path.write_bytes(broken)
        try:
            load_checkpoint(small(), path)  # a flip inside a weight is only another weight
        except CheckpointError:
            continue


@pytest.mark.parametrize(
    "content", [{}, [], 3, None, {"model": {}}, {"epoch": 3}, {"a": torch.zeros(1), "b": 2}, torch.zeros(3)]
)
def test_contents_that_are_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="state dict"):
        load_checkpoint(small(), tmp_path / "odd.pth")


def test_missing_folder_empty_and_wrong_suffix(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.onnx").write_bytes(b"x")
    for name, message in (
        ("none.pth", "no such file"),
        (".", "is a folder"),
        ("empty.pth", "empty"),
        ("weights.onnx", r"\.onnx.*\.safetensors"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read(tmp_path / name)


def test_another_number_of_classes_names_the_fix(tmp_path):
    torch.save(models.build("nextvit_small", num_classes=12).state_dict(), tmp_path / "twelve.pth")
    with pytest.raises(CheckpointError, match="num_classes=12") as error:
        load_checkpoint(ours(), tmp_path / "twelve.pth")
    assert "head.weight (12, 1024), network (7, 1024)" in str(error.value)


def test_another_variant_lists_what_differs(tmp_path):
    torch.save(models.build("nextvit_base", num_classes=7).half().state_dict(), tmp_path / "base.pth")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(ours(), tmp_path / "base.pth")
    lines = str(error.value).splitlines()
    assert "build the model it was saved from" in lines[0]
    assert re.match(r"\d+ unexpected:", lines[1])
    assert len(lines) == 2 + 10 + 1
    assert re.match(r"  and \d+ more", lines[-1])


def test_other_widths_list_shapes(tmp_path):
    torch.save(models.build("block/ncb", in_channels=64, resolution=7).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="shape") as error:
        load_checkpoint(small(), tmp_path / "wide.pth")
    assert "num_classes" not in str(error.value)


def test_network_is_unchanged_where_anything_is_wrong(tmp_path):
    net = small()
    before = copy.deepcopy(net.state_dict())
    state = small().state_dict()
    del state["mlp.conv2.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"1 missing:\n  mlp\.conv2\.bias"):
        load_checkpoint(net, tmp_path / "part.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_checkpoint_error_is_a_model_error():
    assert issubclass(CheckpointError, ModelError)
    assert issubclass(CheckpointError, ValueError)


def test_an_official_block_number_that_does_not_exist_is_unexpected(timm_net, tmp_path):
    state = official(timm_net.state_dict())
    state["features.20.norm.weight"] = torch.zeros(3)
    torch.save({"model": state}, tmp_path / "longer.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected:\n  features\.20\.norm\.weight"):
        load_checkpoint(ours(), tmp_path / "longer.pth")
