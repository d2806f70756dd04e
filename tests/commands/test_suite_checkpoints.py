"""`--checkpoint` and `checkpoints` of a suite: which cases have which weights, and every way to be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from commands import artifacts
from commands.config import load
from commands.plan import Overrides, make
from models import ModelSpec, instantiate
from reports.progress import Progress

SUITE = """
[suites.small]
description = "One small network, simulated"
backends = ["simulated"]

[[suites.small.matrix]]
models = ["nextvit_micro"]
resolutions = [32]
"""
TRAINED = """
[[suites.small.matrix]]
models = ["nextvit_micro"]
resolutions = [32]
checkpoints = { nextvit_micro = "weights/net.safetensors" }
"""


def weights(path: Path, *, seed: int = 1, **options: int) -> Path:
    """A checkpoint of nextvit_micro: safetensors, or as training scripts wrap it."""
    spec = ModelSpec.of("nextvit_micro", resolution=32, weights=f"random:{seed}", **options)
    state = instantiate(spec).state_dict()
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small(project):
    return project.add(SUITE)


def test_two_weights_of_a_model_are_two_cases(small, tmp_path):
    """One matrix has none; the file of the other is looked for beside bench.toml."""
    small.add(TRAINED)
    path = weights(tmp_path / "weights/net.safetensors")
    without, trained = small.planned("small")
    assert (without["case"]["model"]["weights"], without["weights_file"]) == ("random:0", None)
    assert trained["case"]["model"]["weights"] == f"sha256:{sha256(path)}"
    assert trained["weights_file"] == str(path)
    assert trained["label"] == f"nextvit_micro {sha256(path)[:8]} 32 fp32 simulated"
    assert trained["id"] != without["id"]


def test_the_command_line_comes_before_bench_toml(small, tmp_path):
    """A pickled checkpoint with a wrapper, named alone as one model is asked for; nothing else is opened."""
    small.add(TRAINED)
    path = weights(tmp_path / "other=net.pth", seed=2, num_classes=3)
    (case,) = small.planned("small", "--checkpoint", str(path), "--option", "num_classes=3")
    assert case["case"]["model"]["weights"] == f"sha256:{sha256(path)}"
    assert case["case"]["model"]["options"] == {"num_classes": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nextvit_micro=none.pth"], "none.pth: no such file"),
        (["nextvit_micro=."], "checkpoint of nextvit_micro: "),
        (["nextvit_micro="], "is not written like NAME=FILE"),
        (["nextvit_mikro=net.pth"], "unknown model 'nextvit_mikro': did you mean nextvit_micro"),
        (["timm/resnet18=net.pth"], "timm/resnet18 is not measured: known: nextvit_micro"),
        (["nextvit_micro=a", "nextvit_micro=b"], "nextvit_micro has a already: one for each model"),
        (["a", "nextvit_micro=b"], "nextvit_micro has a already"),
        (["my.onnx=net.pth"], "an ONNX file holds its own weights"),
    ],
)
def test_bad_input_is_told(small, given, said):
    answer = small.bench("--suite", "small", *(word for text in given for word in ("--checkpoint", text)))
    assert answer.code == 2
    assert said in answer.err
    assert not (small.folder / "results").exists()


def test_a_file_alone_is_of_the_only_model(small):
    models = ("--model", "nextvit_micro,timm/resnet18")
    answer = small.bench("--suite", "small", *models, "--checkpoint", "net.pth")
    assert answer.code == 2
    assert "--checkpoint net.pth: of which of 2 models? Write --checkpoint NAME=net.pth" in answer.err


def test_an_onnx_file_takes_none(small):
    from tests.small_onnx import net

    path = net(small.folder / "my.onnx")
    answer = small.bench("--suite", "small", "--model", str(path), "--checkpoint", "x.pth")
    assert answer.code == 2
    assert "an ONNX file holds its own weights: leave --checkpoint out" in answer.err


def refused(project, path: Path, *argv: str) -> str:
    answer = project.bench("--suite", "small", "--checkpoint", str(path), *argv)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert not (project.folder / "results").exists()
    return answer.err


def test_a_checkpoint_of_another_model_is_told_with_its_names(small, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(3), "head.bias": torch.zeros(10)}, path)
    said = refused(small, path)
    assert f"checkpoint of nextvit_micro: {path}: does not fit the network" in said
    assert "missing:" in said
    assert "1 unexpected:\n  stem.weight" in said


def test_another_number_of_classes_is_told(small, tmp_path):
    path = weights(tmp_path / "three.safetensors", num_classes=3)
    assert "build the model with num_classes=3" in refused(small, path)


def test_what_is_no_checkpoint_is_told(small, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"no weights")
    assert "not a complete safetensors file" in refused(small, path)


def test_parts_have_random_weights(project, tmp_path):
    text = '[suites.cut]\ndescription = "x"\n[[suites.cut.matrix]]\nmodels = ["nextvit_small"]\n'
    project.add(text + "resolutions = [224]\nparts = true\n")
    (tmp_path / "net.pth").write_bytes(b"x")
    answer = project.bench("--suite", "cut", "--checkpoint", str(tmp_path / "net.pth"))
    assert answer.code == 2
    assert "the parts of a network are measured with random weights alone" in answer.err


def test_a_checkpoint_that_changes_after_planning_is_a_failed_case(small, tmp_path):
    path = weights(tmp_path / "net.safetensors")
    overrides = Overrides(checkpoints=(str(path),), backends=("torch",))
    plan = make(load(small.config), "small", overrides, {})
    planned_for = sha256(path)
    weights(path, seed=3)
    found = artifacts.collect(plan.requests(), tmp_path / "artifacts", Progress())
    (failure,) = found.values()
    assert failure.kind == "bad_input"
    assert f"sha256 is {sha256(path)}, the spec names {planned_for}: another file" in failure.message


@pytest.mark.slow
def test_an_evaluated_checkpoint_meets_the_latency_of_its_case(small, tmp_path):
    """Trained on digits, evaluated as a checkpoint and as a file, measured beside random weights."""
    trained = tmp_path / "weights"
    quick = ("--epochs", "2", "--resolution", "16", "--set", "warmup_epochs=0", "--batch-size", "360")
    assert small.bench("train", *quick, "-o", str(trained), config=False).code == 0
    best = trained / "best.safetensors"
    suite = SUITE.replace("[32]", "[16]") + TRAINED.replace("[32]", "[16]").replace("net.", "best.")
    text = small.config.read_text().replace(SUITE, suite.replace('"simulated"', '"onnxruntime"'))
    small.config.write_text(text)
    digits = ("--data", "digits", "--json")
    told = small.bench("eval", str(best), "--model", "nextvit_micro", "--resolution", "16", *digits)
    assert told.code == 0, told.err
    measured = small.bench("--suite", "small", "--rounds", "2", "--json")
    assert measured.code == 0, measured.err
    rows = json.loads(measured.out)["cases"]
    by_weights = {row["case"]["model"]["weights"][:7]: row for row in rows}
    assert by_weights.keys() == {"random:", "sha256:"}
    again = small.bench("--suite", "small", "--rounds", "2")
    assert "holds 2 of 2 cases: shown from the store" in again.err
    report = json.loads(small.bench("report", "--json").out)
    (evaluation,) = report["evaluations"]
    assert evaluation["case_ids"] == [by_weights["sha256:"]["id"]]
    page = Path(report["report"]).read_text()
    assert "Accuracy measured here on digits, val (364 images) over latency" in page
    assert f"nextvit_micro weights=sha256:{sha256(best)[:12]}" in page
    weights(best, seed=5)
    fresh = small.bench("--suite", "small", "--dry-run")
    assert fresh.out.count("to convert") == 1
    assert fresh.out.count("converted") == 1
