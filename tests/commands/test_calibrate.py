"""`--calibrate`: int8 on images, from the plan to the record and the evaluation, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands.config import load
from commands.plan import Overrides, make
from models.calibration import CalibrationImages
from models.spec import Case, ModelSpec

SUITE = """
[suites.small]
description = "One small network, in two precisions"
backends = ["onnxruntime"]

[[suites.small.matrix]]
models = ["nextvit_micro"]
resolutions = [32]
precisions = ["fp32", "int8"]
"""
CONVERT = ("convert", "nextvit_micro", "--to", "onnx", "--resolution", "32", "--precision", "int8")


@pytest.fixture
def small(project):
    return project.add(SUITE)


def record(folder: Path) -> dict:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_only_int8_cases_are_other_ones(small):
    before, after = (
        small.planned("small"),
        small.planned("small", "--calibrate", "digits", "--calibration-images", "40"),
    )
    assert before[0]["id"] == after[0]["id"]
    assert before[1]["id"] != after[1]["id"]
    assert "calibration" not in before[1]["case"]
    images = CalibrationImages.parse(after[1]["case"]["calibration"])
    assert (images.name, images.count) == ("digits", 40)
    assert after[1]["label"] == f"{before[1]['label']} calibrated digits {images.sha256[:8]}"
    assert Case.from_dict(after[1]["case"]).id == after[1]["id"]


def test_bench_toml_names_images_too_and_the_command_line_comes_first(small, tmp_path):
    small.add('calibrate = "digits"\n')
    (_, int8) = small.planned("small")
    assert int8["case"]["calibration"].startswith("digits:128:")
    plan = make(load(small.config), "small", Overrides(), {})
    requests = plan.requests()
    assert requests[plan.cases[1].id].calibration_data == "digits"
    assert requests[plan.cases[0].id].calibration == ""
    (_, int8) = small.planned("small", "--calibrate", "digits", "--calibration-images", "7")
    assert int8["case"]["calibration"].startswith("digits:7:")
    small.config.write_text(small.config.read_text().replace('"digits"', '"photos"'))
    answer = small.bench("--suite", "small", "--dry-run")
    assert answer.code == 2
    assert f"calibrate = {tmp_path / 'photos'}: {tmp_path / 'photos'}: no such folder" in answer.err
    assert small.planned("small", "--precision", "fp32")  # no case needs them


def test_one_case_has_one_calibration(small):
    second = SUITE[SUITE.index("\n[[") :] + 'calibrate = "digits"\n'
    small.add(second)
    answer = small.bench("--suite", "small", "--dry-run")
    assert answer.code == 2
    assert "with another calibration too: keep one of the two" in answer.err


@pytest.mark.parametrize("text", ["digits", "digits:x:abc", 3, ["digits:1:abc"]])
def test_a_record_that_names_no_images_is_none(text):
    """Files of others hold cases: their labels are drawn."""
    value = Case(ModelSpec.of("nextvit_micro"), "onnxruntime", precision="int8").to_dict()
    with pytest.raises((ValueError, AttributeError)):
        Case.from_dict({**value, "calibration": text})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--calibrate", "digits", "--precision", "fp32"], "no case of the suite is in int8"),
        (["--calibrate", "none"], "none: no such folder: give a folder with train/CLASS"),
        (["--calibrate", ""], "--calibrate: is empty"),
        (["--calibrate", "digits", "--calibration-images", "0"], "not a whole number of at least 1"),
        (["--calibrate", "digits", "--calibration-images", "1434"], "train holds 1433 images, fewer"),
        (["--calibration-images", "3"], "--calibration-images 3: of which images?"),
        (
            ["--calibrate", "digits", "--option", "in_chans=1"],
            "nextvit_micro takes 1x32x32: only networks of",
        ),
        (
            ["--calibrate", "digits", "--suite", "tiny", "--backend", "onnxruntime", "--precision", "int8"],
            "block/ncb takes 384x14x14: only networks of square colour images",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(small, given, said):
    answer = small.bench("--suite", "small", *given)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert not (small.folder / "results").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nextvit_micro", "--precision", "fp16"], "is for --precision int8: fp16 has no ranges"),
        (["block/ncb", "--resolution", "14x14x384"], "block/ncb takes 384x14x14"),
    ],
)
def test_convert_refuses_it_as_well(project, given, said):
    answer = project.bench(*CONVERT, *given[1:], "-o", str(project.folder / "out"), "--calibrate", "digits")
    if given[0] != "nextvit_micro":
        argv = ["convert", given[0], "--to", "onnx", "--precision", "int8", *given[1:]]
        answer = project.bench(*argv, "-o", str(project.folder / "out"), "--calibrate", "digits")
    assert answer.code == 2
    assert said in answer.err
    assert not (project.folder / "out").exists()


def test_from_images_to_an_evaluated_file(project):
    """Its record, its inputs and its evaluation tell the images; random ones give another file."""
    out, plain = project.folder / "out", project.folder / "plain"
    images = ("--calibrate", "digits", "--calibration-images", "32")
    for folder, more in ((out, images), (plain, ())):
        answer = project.bench(*CONVERT, "-o", str(folder), *more)
        assert answer.code == 0, answer.err
    found, other = record(out), record(plain)
    assert found["key"] != other["key"]
    assert found["facts"]["calibration"] == "digits"
    assert found["facts"]["calibration_images"] == 32
    assert found["facts"]["judged_images"] == 64
    assert len(found["facts"]["calibration_sha256"]) == 64
    step = found["steps"][-1]
    assert step["parity"]["top1_positions"] == 64
    assert "calibrated on 32 images of digits, train (sha256 " in step["note"]
    assert "judged on 64 of its val" in step["note"]
    assert other["facts"]["calibration"] == "random"
    with np.load(project.folder / "artifacts" / found["key"] / "tensors.npz") as tensors:
        timed = tensors["input_0"]
    assert len(np.unique(timed)) < 3 * 32 * 32 / 2  # a digit of 8x8 pixels, no noise
    (file,) = out.glob("*.onnx")
    answer = project.bench("eval", str(file), "--data", "digits", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["calibration"]["calibration_images"] == 32
    answer = project.bench("eval", str(next(plain.glob("*.onnx"))), "--data", "digits")
    assert "calibrated   on 16 random inputs: for a latency, not for an accuracy" in answer.out
    answer = project.bench("eval", str(file), "--data", "digits")
    assert "calibrated   on 32 images of digits, train (sha256 " in answer.out


@pytest.mark.slow
def test_a_suite_measures_what_it_calibrates(small):
    answer = small.bench("--suite", "small", "--calibrate", "digits", "--json")
    assert answer.code == 0, answer.err
    fp32, int8 = json.loads(answer.out)["cases"]
    assert int8["artifact"]["facts"]["calibration"] == "digits"
    assert "calibration" not in fp32["artifact"]["facts"]
    page = (small.folder / "results/small.html").read_text()
    assert "calibrated on 128 images of digits, train" in page
