"""Next-ViT from here against the forms that others deploy: `make benchmark`, its longest part.

The rivals have the same weights: timm's own ONNX export, plain and with its `reparameterize_model`, which is
the upstream `merge_bn`. All run in the same ONNX Runtime, in turns with ours, in so many pairs of rounds: an
interval that ends when it is narrow enough would be too narrow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from commands.artifacts import job
from commands.latency_beside import BesideReference
from converters.artifact import Artifact, ConversionRequest
from converters.onnx_header import identity
from converters.pool import convert_all
from models.spec import Case, ModelSpec
from reports.verdicts import Ratio, judge_pairs
from runners.measurement import Job, Timing

ROOT = Path(__file__).parents[2]
SIZES = ("small", "base", "large")
FORMS = ("plain", "merged")
NEVER_SLOWER, INT8_GAIN = 1.01, 2.3
PAIRS = 24
TIMING = Timing(round_seconds=0.6, warmup_seconds=0.2, turn_seconds=0.06)

# In a process of its own: torch and its threads stay out of this one.
_EXPORT = """
import sys
import timm, torch
from safetensors.torch import save_file
from timm.utils import reparameterize_model
from timm.utils.onnx import onnx_export

size, folder = sys.argv[1:]
torch.manual_seed(0)
model = timm.create_model(f"nextvit_{size}").eval()
for module in model.modules():  # as a training leaves them: nothing folds to 1 and 0
    if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
        for tensor, low, high in ((module.running_mean, -0.1, 0.1), (module.running_var, 0.8, 1.2)):
            tensor.uniform_(low, high)
        torch.nn.init.uniform_(module.weight, 0.9, 1.1)
        torch.nn.init.uniform_(module.bias, -0.1, 0.1)
save_file(model.state_dict(), f"{folder}/weights.safetensors")
image = torch.randn(1, 3, 224, 224)
onnx_export(model, f"{folder}/plain.onnx", image)
onnx_export(reparameterize_model(model), f"{folder}/merged.onnx", image)
"""


@pytest.fixture(scope="module", params=SIZES)
def forms(request, tmp_path_factory) -> tuple[str, dict[str, Artifact]]:
    """One size as (name, files by form): `ours` in fp32 and int8, timm's plain and merged export."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-c", _EXPORT, request.param, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    weights = folder / "weights.safetensors"
    name = f"nextvit_{request.param}"
    spec = ModelSpec.of(name, resolution=224, weights=f"sha256:{identity(weights)}")
    asked = {
        "ours": ConversionRequest(spec, "onnx", checkpoint=weights),
        "int8": ConversionRequest(spec, "onnx", precision="int8", flavour="cpu", checkpoint=weights),
        **{form: _from_file(folder / f"{form}.onnx") for form in FORMS},
    }
    made = dict(convert_all(asked.values(), folder / "artifacts"))
    files = {form: made[wanted] for form, wanted in asked.items()}
    for form, file in files.items():
        assert isinstance(file, Artifact), (form, file)
    return name, files


def _from_file(path: Path) -> ConversionRequest:
    spec = ModelSpec.of(path.name, resolution=224, weights=f"sha256:{identity(path)}")
    return ConversionRequest(spec, "onnx", checkpoint=path)


def ratio(ours: Artifact, other: Artifact) -> Ratio:
    """Our time over the other's, both in turns, with the 95 % interval of PAIRS pairs of rounds."""
    beside = BesideReference(_job(other), lambda _: _job(ours), replace(TIMING, max_seconds=3600.0))
    return judge_pairs(np.array(beside(0, PAIRS)), delta=0.0).ratio


def _job(artifact: Artifact) -> Job:
    return job(Case(artifact.model, "onnxruntime", precision=artifact.precision), artifact, TIMING)


def told(what: str, found: Ratio) -> str:
    interval = f"[{found.low or 0:.4f}, {found.high or 0:.4f}]"
    load = os.getloadavg()[0]
    return f"\n{what}: {found.value:.4f} {interval}, {found.pairs} pairs of rounds; load {load:.2f}"


@pytest.mark.parametrize("form", FORMS)
def test_ours_is_never_slower_than_timms_export(forms, form):
    name, files = forms
    found = ratio(files["ours"], files[form])
    print(told(f"{name}, ours over timm's export, {form}", found))
    assert found.high is not None
    assert found.high < NEVER_SLOWER


@pytest.mark.parametrize("form", FORMS)
def test_the_rivals_compute_the_same(forms, form):
    """The same weights: where this fails, the ratios compare different networks."""
    _, files = forms
    wanted = [files[kind] for kind in ("ours", form)]
    outputs = []
    for file in wanted:
        session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
        with np.load(files["ours"].tensors) as tensors:
            outputs.append(session.run(None, {session.get_inputs()[0].name: tensors["input_0"]})[0])
    ours, other = outputs
    assert np.abs(ours - other).max() < 1e-4 * np.abs(other).max()


def test_int8_is_faster(forms):
    """The bar holds for Next-ViT-S where the processor multiplies bytes (AVX-512 VNNI); others are told."""
    name, files = forms
    found = ratio(files["ours"], files["int8"])
    print(told(f"{name}, fp32 over int8", found))
    cpu = Path("/proc/cpuinfo")
    if name != "nextvit_small" or not (cpu.is_file() and "avx512_vnni" in cpu.read_text()):
        pytest.skip("no bar: another size, or no AVX-512 VNNI here")
    assert found.low is not None
    assert found.low > INT8_GAIN
