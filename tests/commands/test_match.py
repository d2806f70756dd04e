"""`match`: what it refuses, how it tells what was found, and the whole of it on two small networks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from reports.matched import Matched, document, mean_interval, print_matched, section
from reports.verdicts import judge_pairs

TIMING = """
schema = 1
[timing]
round_seconds = 0.1
warmup_seconds = 0.05
min_samples = 2

[suites.tiny]
description = "One block"

[[suites.tiny.matrix]]
models = ["block/ncb"]
shapes = ["14x14x384"]
"""
SMALL = "--model blocknet/lsa --reference-setting 3 --settings 3-5 --tolerance 60% --rounds 3"
TRAINED = "--seeds 2 --epochs 1"


def compared(log: float, spread: float = 0.002):
    return judge_pairs(log + spread * np.array([-1.0, 1.0, -0.5, 0.5]), delta=0.03)


MATCHED = (
    Matched("blocknet/ncb", "depth", 6, "", None, (0.97, 0.98, 0.99), is_reference=True),
    Matched("blocknet/lsa", "depth", 4, "depth 4 takes 1.010", compared(0.01), (0.96, 0.96, 0.96)),
    Matched("blocknet/convnext", "depth", 5, "no depth is within 3 %", compared(0.06), (0.9, 0.9, 0.93)),
    Matched("blocknet/mbconv", "depth", 3, "32 rounds do not tell", compared(0.03), ()),
)


def test_the_interval_of_a_mean_is_students():
    mean, low, high = mean_interval([0.97, 0.98, 0.99])
    assert mean == pytest.approx(0.98)
    assert (high - mean, mean - low) == pytest.approx([4.302653 * 0.01 / math.sqrt(3)] * 2)
    assert mean_interval([0.5]) == (0.5, None, None)


def test_within_is_judged_by_the_fresh_rounds():
    assert [each.within for each in MATCHED] == ["the reference", "yes", "no", "undecided"]
    told = document(MATCHED)["networks"]
    assert told[1]["ratio"]["value"] == pytest.approx(math.exp(0.01))
    assert (told[0]["ratio"], told[2]["top1"]) == (None, [0.9, 0.9, 0.93])
    json.dumps(told, allow_nan=False)


def test_the_table_has_ratio_accuracy_and_what_has_no_match(capsys):
    print_matched(MATCHED, "Within 3 %", Console(width=160))
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("blocknet/lsa"))
    assert line.split()[1:4] == ["depth", "4", "1.010×"]
    assert line.rstrip().endswith("96.00 [96.00, 96.00]")
    assert "98.00 [95.52, 100.00]" in out
    assert "blocknet/convnext: no depth is within 3 %." in out
    assert "blocknet/mbconv: 32 rounds do not tell." in out
    assert "say nothing of ImageNet" in out


def test_the_section_says_the_same():
    found = section(MATCHED, "Within 3 %")
    (grid,) = found.grids
    assert [line.cells[0].text for line in grid.lines] == [each.model for each in MATCHED]
    assert len(found.paragraphs) == 2


def test_without_trainings_there_is_no_accuracy(capsys):
    bare = [
        Matched("a", "depth", 3, "", None, is_reference=True),
        Matched("b", "depth", 4, "", compared(0.0)),
    ]
    print_matched(bare, "Within 3 %", Console(width=160))
    assert "top-1" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "blocknet/lsaa"], "unknown model 'blocknet/lsaa': did you mean blocknet/lsa"),
        (["--model", "nextvit_small"], "nextvit_small: has no option 'depth' to search"),
        (["--model", "block/ncb"], "block/ncb: has no option 'depth' to search"),
        (["--model", "timm/resnet18"], "timm/resnet18: has no option 'depth' to search"),
        (["--model", "blocknet/ncb"], "and not the reference blocknet/ncb"),
        (["--knob", "heads"], "blocknet/ncb: has no option 'heads' to search"),
        (["--settings", "24-3"], "--settings: '24-3' is not written like 3-24"),
        (["--settings", "2-4"], "depth=2: must be an integer of at least 3"),
        (["--reference-setting", "1"], "depth=1: must be an integer of at least 3"),
        (["--tolerance", "0"], "--tolerance: no two networks take exactly as long"),
        (["--rounds", "1"], "--rounds: one round has no interval: at least 2"),
        (["--backend", "simulated"], "--backend simulated: nothing takes turns there"),
        (["--backend", "onnxruntim"], "unknown backend 'onnxruntim': did you mean onnxruntime"),
        (["--precision", "fp8"], "fp8"),
        (
            ["--seeds", "1", "--epochs", "100001"],
            "epochs=100001: Input should be less than or equal to 100000",
        ),
        (["--seeds", "two"], "--seeds: 'two' is not a whole number"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(project, options, message):
    answer = project.bench("match", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(path.name for path in project.folder.iterdir()) == ["bench.toml"]


@pytest.mark.slow
def test_two_networks_are_matched_measured_and_trained(project):
    torch.set_num_threads(1)
    project.config.write_text(TIMING)
    report = project.folder / "match.html"
    answer = project.bench("match", *SMALL.split(), *TRAINED.split(), "--report", str(report), "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    reference, found = told["networks"]
    assert (reference["model"], reference["setting"], reference["within"]) == (
        "blocknet/ncb",
        3,
        "the reference",
    )
    assert found["model"] == "blocknet/lsa"
    assert found["setting"] in (3, 4, 5)
    assert found["ratio"]["low"] <= found["ratio"]["value"] <= found["ratio"]["high"]
    assert found["ratio"]["pairs"] == 3
    assert all(len(each["top1"]) == 2 for each in told["networks"])
    assert all(0.0 <= top1 <= 1.0 for each in told["networks"] for top1 in each["top1"])
    page = report.read_text()
    assert "Networks at the reference" in page
    assert "blocknet/lsa" in page
    stored = project.bench("report", "--list")
    assert "match" in stored.out
