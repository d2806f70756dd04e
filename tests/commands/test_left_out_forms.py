"""Cases without a form for deployment: from bench.toml and the command line to record, table and report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.config import load
from commands.plan import Overrides, make
from commands.timing import comparisons
from models.spec import forms_left_out
from reports.savings import counterpart

SHIPPED = Path(__file__).parents[2] / "bench.toml"
SUITE = """
schema = 1

[timing]
min_rounds = 3
max_rounds = 3
round_seconds = 0.05
warmup_seconds = 0.01
target = 0.5
max_seconds = 120
turn_seconds = 0.01

[suites.forms]
description = "A network with its form and without, and a block that has none"

[[suites.forms.matrix]]
models = ["efficientmod_xxs"]
resolutions = [64]

[[suites.forms.matrix]]
models = ["efficientmod_xxs"]
resolutions = [64]
build = { without_form = "channels-first" }

[[suites.forms.matrix]]
models = ["block/bottleneck"]
shapes = ["7x7x64"]
build = { without_form = "channels-first" }
"""


def test_every_case_of_the_shipped_suite_has_its_counterpart_in_turns():
    plan = make(load(SHIPPED), "forms", Overrides(), {})
    cases = {case.id: case for case in plan.cases}
    without = [case for case in plan.cases if counterpart(case)]
    assert {name for case in without for name in forms_left_out(case.build)} == {
        "constant biases", "one classifier", "scaled norm", "five axes", "channels first", "sliced shifts",
    }  # fmt: skip
    assert [case.model.name for case in without if not case.fused] == [
        "nextvit_small", "mobilevig_ti", "timm/convnext_tiny", "timm/mobileone_s0",
    ]  # fmt: skip
    groups = comparisons(plan.cases)
    for case in without:
        _, other = counterpart(case)
        assert other.id in cases, case.label
        assert groups[case.id] == groups[other.id]
    assert {name for group in groups.values() if (name := group.split()[-1])} == {
        case.model.name for case in plan.cases
    }
    assert plan.timing.turn_seconds > 0


def test_other_suites_compare_all_models_of_a_shape():
    plan = make(load(SHIPPED), "blocks", Overrides(), {})
    assert len(set(comparisons(plan.cases).values())) == 4


@pytest.mark.parametrize(
    "argv",
    [
        ("--suite", "nets", "--build", "without_form=five-axis", "--dry-run"),
        ("convert", "nextvit_small", "--to", "onnx", "--build", "without_form=five-axis", "-o", "out"),
        ("convert", "nextvit_small", "--to", "coreml", "--build", "without_form=five-axis", "-o", "out"),
    ],
    ids=["suite", "onnx", "coreml"],
)
def test_an_unknown_form_is_named_with_the_nearest(project, monkeypatch, argv):
    monkeypatch.chdir(project.folder)
    answer = project.bench(*argv)
    assert answer.code == 2
    assert "without_form=five-axis: there is no form 'five-axis': did you mean five-axes?" in answer.err
    assert "Traceback" not in answer.err
    assert [path.name for path in project.folder.iterdir()] == ["bench.toml"]


def test_converting_a_network_that_has_no_such_form_is_an_error(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    argv = ("--resolution", "7x7x32", "--build", "without_form=scaled-norm", "-o", "out")
    answer = project.bench("convert", "block/bottleneck", "--to", "onnx", *argv)
    assert answer.code == 2
    assert "there is no form 'scaled norm' to leave out: this network has none" in answer.err
    assert not (project.folder / "out").exists()


@pytest.mark.slow
def test_a_suite_measures_with_and_without_and_names_what_has_no_form(project):
    project.config.write_text(SUITE)
    answer = project.bench("--suite", "forms", "--json")
    assert answer.code == 1, answer.err
    value = json.loads(answer.out)
    whole, without, block = value["cases"]
    assert without["label"] == f"{whole['label']} without_form=channels-first"
    assert without["artifact"]["build"] == {"without_form": "channels-first"}
    assert without["artifact"]["key"] != whole["artifact"]["key"]
    steps = [[step["name"] for step in case["artifact"]["steps"]] for case in (whole, without)]
    assert steps[0][1] == "channels first"
    assert steps[1][1] == "left out: channels first"
    assert block["failure"]["kind"] == "conversion"
    assert "there is no form 'channels first' to leave out" in block["failure"]["message"]
    page = (project.folder / "results/forms.html").read_text()
    assert "<h2>What each form saves</h2>" in page
    assert "left out: channels first" in page
    again = project.bench("--suite", "forms")
    assert "Forms time without over time with it" in " ".join(again.out.split())
    assert "channels first, efficientmod_xxs: " in " ".join(again.out.split())
