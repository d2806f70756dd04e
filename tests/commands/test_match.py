"""`match`: what it refuses, how it tells what was found, and the whole of it on two small networks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from reports.matched import Matched, document, print_matched, section
from reports.matched_accuracy import mean_interval, over_images, sentences, told_apart
from reports.verdicts import judge_pairs

MATCH = """
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

[suites.blocks-accuracy]
description = "Blocks"

[suites.blocks-accuracy.match]
reference = "blocknet/ncb"
models = ["blocknet/lsa", "blocknet/convnext"]
settings = "3-24"
seeds = 0
"""
SMALL = "--model blocknet/lsa --reference-setting 3 --settings 3-5 --tolerance 60% --rounds 3"
TRAINED = "--seeds 2 --epochs 1"
IMAGES = 364


def compared(log: float, spread: float = 0.002):
    return judge_pairs(log + spread * np.array([-1.0, 1.0, -0.5, 0.5]), delta=0.03)


MATCHED = (
    Matched("blocknet/ncb", "depth", 6, "", None, (0.97, 0.98, 0.99), is_reference=True, images=IMAGES),
    Matched(
        *("blocknet/lsa", "depth", 4, "depth 4 takes 1.010", compared(0.01), (0.96, 0.96, 0.96)),
        fine=("hidden", 94),
        images=IMAGES,
    ),
    Matched(
        *("blocknet/convnext", "depth", 5, "no depth is within 3 %", compared(0.06), (0.9, 0.9, 0.93)),
        images=IMAGES,
    ),
    Matched("blocknet/mbconv", "depth", 3, "32 rounds do not tell", compared(0.03), ()),
)


@pytest.fixture
def match_project(project):
    project.config.write_text(MATCH)
    return project


def learned(name: str, *top1: float, log: float = 0.0) -> Matched:
    return Matched(name, "depth", 5, "too slow", compared(log), top1, images=IMAGES)


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
    assert (told[0]["fine_knob"], told[1]["fine_knob"]) == (None, {"name": "hidden", "setting": 94})
    assert told[2]["accuracy"]["mean"] == pytest.approx(0.91)
    assert told[2]["accuracy"]["images"] == IMAGES
    assert told[3]["accuracy"] == {"mean": None, "low": None, "high": None, "images": 0}
    json.dumps(told, allow_nan=False)


def test_the_table_has_ratio_accuracy_and_what_has_no_match(capsys):
    print_matched(MATCHED, "Within 3 %", Console(width=160))
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("blocknet/lsa"))
    assert line.split()[1:6] == ["depth", "4,", "hidden", "94", "1.010×"]
    assert line.rstrip().endswith("96.00 [96.00, 96.00]")
    assert "98.00 [95.52, 100.00]" in out
    told = " ".join(out.split())
    assert "blocknet/convnext: the search said: no depth is within 3 %; the fresh rounds: 1.062×" in told
    assert "blocknet/mbconv: the search said: 32 rounds do not tell; the fresh rounds: 1.030×" in told
    assert "say nothing of ImageNet" in out
    assert "One image is 0.27 %, so 0.1 % are 0.4 images." in " ".join(out.split())
    assert "stages" not in out


def test_a_search_that_matched_and_fresh_rounds_that_do_not():
    """Both are told, each as what it is: the search's sentence is no reason for the column beside it."""
    searched = "depth 5 takes 1.012 of the reference's time, 95 % CI [1.001, 1.023]: within 3 %"
    beyond = Matched("blocknet/convnext", "depth", 5, searched, compared(0.06))
    unknown = Matched("blocknet/lsa", "depth", 5, searched, compared(0.03))
    alone = Matched("blocknet/mbconv", "depth", 5, "", compared(-0.06))
    told = document((MATCHED[0], beyond, unknown, alone))
    assert [each["within"] for each in told["networks"]] == ["the reference", "no", "undecided", "no"]
    assert told["findings"] == [
        f"blocknet/convnext: the search said: {searched}; the fresh rounds: 1.062× [1.059, 1.065], not within"
        " 3 %.",
        f"blocknet/lsa: the search said: {searched}; the fresh rounds: 1.030× [1.027, 1.033], undecided if"
        " within 3 %.",
        "blocknet/mbconv: the fresh rounds: 0.942× [0.939, 0.945], not within 3 %.",
    ]


def test_the_interval_that_decides_is_named():
    """Equivalent by two tests at 5 % each, though the interval of 95 % beside it reaches beyond 3 %."""
    comparison = compared(0.027, spread=0.0022)
    assert comparison.ratio.high is not None
    assert comparison.ratio.high > 1.03
    found = Matched("blocknet/lsa", "depth", 5, "", comparison)
    assert found.within == "yes"
    notes = section((MATCHED[0], found), "title").notes
    assert any("the 90 % interval lies inside (two one-sided tests at 5 % each)" in note for note in notes)
    assert not any("one-sided" in note for note in section((MATCHED[0],), "title").notes)


def test_patterns_that_are_one_network_are_told():
    stages, other = "NCB×2 | NCB×4 + NTB", "NCB×2 | (NCB + NTB)×2"
    found = [
        Matched("hybrid/chhh", "depth", 11, "", None, is_reference=True, stages=stages),
        Matched("hybrid/n2", "depth", 11, "", compared(0.0), stages=stages),
        Matched("hybrid/n1", "depth", 11, "", compared(0.0), stages=other),
        Matched("hybrid/n4", "depth", 11, "", compared(0.0), stages=stages, fine=("hidden", 91)),
    ]
    (told,) = [note for note in section(found, "title").notes if "one network" in note]
    assert told.startswith("hybrid/chhh and hybrid/n2 are one network here")


def test_stages_are_a_column_where_networks_are_of_several_kinds(capsys):
    mixed = Matched("hybrid/n1", "depth", 5, "", compared(0.0), stages="NCB×2 | (NCB + NTB)×3")
    plain = Matched("blocknet/lsa", "depth", 5, "", compared(0.0), stages="LSABlock×2 | LSABlock×3")
    print_matched([plain], "Within 3 %", Console(width=160))
    assert "stages" not in capsys.readouterr().out
    print_matched([plain, mixed], "Within 3 %", Console(width=160))
    assert "NCB×2 | (NCB + NTB)×3" in capsys.readouterr().out


def test_what_overlaps_is_no_win():
    high, low = learned("high", 0.99, 0.98, 0.985), learned("low", 0.97, 0.98, 0.975)
    assert not told_apart(high, low)
    assert sentences([high, low]) == (
        "The digits tell none of these 2 networks apart: every interval of accuracy, over trainings or over"
        " images, overlaps with that of the highest mean, high.",
    )


def test_equal_trainings_are_no_proof():
    """An interval of width 0 over seeds says nothing of other images, so a single image decides nothing."""
    one, other = (learned(name, *[hits / IMAGES] * 3) for name, hits in (("one", 357), ("other", 356)))
    assert mean_interval(one.top1)[1] == pytest.approx(mean_interval(one.top1)[2])
    assert over_images(one)[0] < over_images(other)[1]
    assert not told_apart(one, other)


def test_one_training_tells_nothing_apart():
    assert not told_apart(learned("a", 0.99), learned("b", 0.5))


def test_what_is_far_below_is_named_and_what_is_not_matched_stays_out():
    found = [
        learned("a", 0.99, 0.985, 0.99),
        learned("b", 0.98, 0.99, 0.985),
        learned("c", 0.90, 0.905, 0.90),
        learned("d", 0.999, 0.999, 0.998, log=0.2),
    ]
    assert sentences(found) == (
        "Highest mean: a, which the digits do not tell apart from b. Below it: c. Not at its latency, and not"
        " in this: d.",
    )
    assert sentences(found[:1]) == ()
    assert sentences(found[3:]) == ("Not at its latency, and not in this: d.",)


def test_the_section_says_the_same():
    found = section(MATCHED, "Within 3 %")
    (grid,) = found.grids
    assert [line.cells[0].text for line in grid.lines] == [each.model for each in MATCHED]
    assert len(found.paragraphs) == 3
    (drawing,) = found.drawings
    assert "blocknet/lsa 96.00 %" in drawing.alt
    assert "blocknet/mbconv" not in drawing.alt
    assert drawing.svg.count("fill: #ffffff; stroke: #5b6875") == 1  # the one that is not at the latency


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
        (["--model", "block/ncb"], "--model: block/ncb: has no option 'depth' to search"),
        (["--reference", "block/ncb"], "--reference: block/ncb: has no option 'depth' to search"),
        (["--model", "timm/resnet18"], "timm/resnet18: has no option 'depth' to search"),
        (["--model", "blocknet/ncb"], "and not the reference blocknet/ncb"),
        (["--knob", "heads"], "--knob: blocknet/ncb: has no option 'heads' to search"),
        (["--fine-knob", "heads"], "--fine-knob: blocknet/ncb: has no option 'heads' to search"),
        (["--fine-knob", "depth"], "--fine-knob: 'depth' is the knob itself"),
        (
            ["--fine-knob", "hidden", "--fine-settings", "80-99"],
            "--fine-settings: '80-99' leaves out 100, where networks are",
        ),
        (["--settings", "24-3"], "--settings: '24-3' goes down: the lowest comes first, 3-24"),
        (["--settings", "3:24"], "--settings: '3:24' is not written like 3-24"),
        (["--suite", "tiny"], "--suite: 'tiny' has no table 'match', as these have: blocks-accuracy"),
        (["--suite", "hybird"], "unknown suite 'hybird'"),
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
        (["--seeds", "two"], "--seeds: 'two' is not a whole number from 0, for no training, to 1000"),
        (["--seeds", "1001"], "--seeds: '1001' is not a whole number from 0"),
        (
            ["--fine-knob", "width"],
            "--fine-knob width: is 1 unless it is moved, and the suite's fine settings 75-133 are another"
            " knob's: give --fine-settings LOW-HIGH with 1 in it",
        ),
        (
            ["--fine-knob", "width", "--fine-settings", "3-5"],
            "--fine-settings: '3-5' leaves out 1, where networks are",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(match_project, options, message):
    project = match_project
    answer = project.bench("match", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(path.name for path in project.folder.iterdir()) == ["bench.toml"]


def test_a_configuration_without_such_a_suite_is_named(project):
    answer = project.bench("match")
    assert answer.code == 2
    assert "has none with a table 'match'" in answer.err


@pytest.mark.slow
def test_two_networks_are_matched_measured_and_trained(match_project):
    torch.set_num_threads(1)
    project = match_project
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
    assert "blocks-accuracy" in stored.out
