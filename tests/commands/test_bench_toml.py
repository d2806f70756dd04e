"""bench.toml: what is shipped parses, and every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import UsageError
from commands.config import load
from commands.plan import Overrides, make

SHIPPED = Path(__file__).parents[2] / "bench.toml"

BASE = """
schema = 1
[suites.a]
description = "x"
[[suites.a.matrix]]
models = ["block/ncb"]
shapes = ["14x14x384"]
"""


def test_every_shipped_suite_makes_a_plan():
    config = load(SHIPPED)
    ordinary = [name for name, suite in config.suites.items() if suite.matrix]
    plans = {name: make(config, name, Overrides(), {}) for name in ordinary}
    assert {"blocks", "variants", "variants-core", "smoke"} <= set(plans)
    assert all(plan.cases for plan in plans.values())
    assert len({case.id for plan in plans.values() for case in plan.cases}) >= 60


def test_the_blocks_suite_compares_every_block_at_every_stage():
    from models import MODELS

    plan = make(load(SHIPPED), "blocks", Overrides(), {})
    fused = {(c.model.name, c.model.shape_label) for c in plan.cases if c.fused}
    blocks = [name for name in MODELS if name.startswith("block/")]
    shapes = ("56x56x96", "28x28x192", "14x14x384", "7x7x768")
    assert fused == {(name, shape) for name in blocks for shape in shapes}


MISTAKES = {
    "unknown top key": (BASE + "[stor]\n", "unknown key 'stor'"),
    "unknown suite key": (BASE + "[suites.b]\ndescripton = 'x'\n", "did you mean description"),
    "unknown matrix key": (BASE + "precision = ['fp32']\n", "did you mean precisions"),
    "unknown timing key": (BASE + "[suites.a.timing]\nrounds = 3\n", "unknown key 'suites.a.timing.rounds'"),
    "unknown key of a suite that is called as a table": (
        BASE + "[suites.timing]\ndescripton = 'x'\n",
        "unknown key 'suites.timing.descripton': did you mean description",
    ),
    "suite's name": (BASE.replace("suites.a", "suites.'../a'"), "suites.../a = '../a': a suite's name has"),
    "wrong type": (BASE + "[timing]\nmin_rounds = 'five'\n", "timing.min_rounds = 'five'"),
    "float for an integer": (BASE + "[timing]\nmin_rounds = 5.5\n", "timing.min_rounds = 5.5"),
    "wrong unit": (BASE + "[timing]\nmax_seconds = '10 min'\n", "timing.max_seconds = '10 min'"),
    "target in percent": (BASE + "[timing]\ntarget = 2\n", "timing.target = 2"),
    "too few rounds": (BASE + "[timing]\nmin_rounds = 1\n", "timing.min_rounds = 1"),
    "shape": (BASE.replace("14x14x384", "14x384"), "is not written like '14x14x384'"),
    "not square": (BASE.replace("14x14x384", "14x7x384"), "is not square"),
    "precision": (BASE + "precisions = ['fp8']\n", "unknown precision 'fp8'"),
    "checkpoint of no model": (
        BASE + "checkpoints = {'block/nbc' = 'x'}\n",
        "'block/nbc' is not a model of this",
    ),
    "checkpoint without a path": (BASE + "checkpoints = {'block/ncb' = ''}\n", "a file is wanted"),
    "checkpoint as a number": (BASE + "checkpoints = {'block/ncb' = 3}\n", "checkpoints.block/ncb = 3"),
    "empty models": (BASE.replace('["block/ncb"]', "[]"), "suites.a.matrix[0].models"),
    "missing description": (BASE.replace('description = "x"', ""), "'suites.a.description' is missing"),
    "missing schema": (BASE.replace("schema = 1", ""), "'schema' is missing"),
    "newer schema": (BASE.replace("schema = 1", "schema = 2"), "newer than this version"),
    "schema as text": (BASE.replace("schema = 1", "schema = '1'"), "schema = '1'"),
    "no time to convert": (BASE + "[conversion]\ndeadline_seconds = 0\n", "conversion.deadline_seconds = 0"),
    "unknown conversion key": (BASE + "[conversion]\ndeadline = 9\n", "did you mean deadline_seconds"),
    "not TOML": ("schema = = 1", "not valid TOML"),
    "not text": ("\x00\x01", "not valid TOML"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_contradicting_timing_is_refused(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(BASE + "[timing]\nmin_rounds = 9\nmax_rounds = 3\n")
    with pytest.raises(UsageError, match="max_rounds=3 is below min_rounds=9"):
        make(load(path), "a", Overrides(), {})


def test_a_focus_that_the_suite_lacks_is_refused(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(BASE.replace('description = "x"', 'description = "x"\nfocus = "block/nbc"'))
    with pytest.raises(UsageError, match="focus 'block/nbc' is not a model of it: did you mean block/ncb"):
        make(load(path), "a", Overrides(), {})


def test_a_deadline_below_a_round_is_refused(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(BASE + "[timing]\nround_seconds = 200\n")
    with pytest.raises(UsageError, match="deadline_seconds=120 leaves no time"):
        make(load(path), "a", Overrides(), {})


def test_a_suite_overrides_the_files_timing(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(BASE + "[timing]\nmin_rounds = 4\nseed = 7\n[suites.a.timing]\nmin_rounds = 6\n")
    timing = make(load(path), "a", Overrides(), {"max_seconds": 3.0}).timing
    assert (timing.min_rounds, timing.seed, timing.max_seconds) == (6, 7, 3.0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no configuration at .*gone\.toml"):
        load(tmp_path / "gone.toml")


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)


def test_the_deadline_of_conversions(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(BASE)
    assert make(load(path), "a", Overrides(), {}).conversion_seconds == 900
    path.write_text(BASE + "[conversion]\ndeadline_seconds = 0.2\n")
    assert make(load(path), "a", Overrides(), {}).conversion_seconds == 0.2


def test_a_conversion_that_takes_longer_is_a_failed_case(project):
    text = project.config.read_text() + "\n[conversion]\ndeadline_seconds = 0.05\n"
    project.config.write_text(text)
    answer = project.bench("--suite", "tiny", "--backend", "onnxruntime", "--model", "block/ncb", "--json")
    assert answer.code == 1
    assert "0.05 s" in answer.out
