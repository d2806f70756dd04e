"""A sweep from the command line: threads of a matrix, the shipped suite's cases, the report's section."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from commands import UsageError
from commands.config import load
from commands.plan import Overrides, make

SHIPPED = Path(__file__).parents[2] / "bench.toml"

TOML = """
schema = 1
[suites.a]
description = "x"
threads = [1]
[[suites.a.matrix]]
models = ["block/ncb"]
shapes = ["14x14x384"]
threads = [2, 4]
[[suites.a.matrix]]
models = ["block/ntb"]
shapes = ["14x14x384"]
"""


def plan(path: Path, text: str = TOML, **overrides):
    path.write_text(text)
    return make(load(path), "a", Overrides(**overrides), {})


def test_threads_of_a_matrix_hold_for_it_alone(tmp_path):
    cases = plan(tmp_path / "bench.toml").cases
    assert [(c.model.name, c.threads) for c in cases] == [
        ("block/ncb", 2),
        ("block/ncb", 4),
        ("block/ntb", 1),
    ]


def test_the_command_line_replaces_threads_of_suite_and_matrix(tmp_path):
    cases = plan(tmp_path / "bench.toml", threads=(3,)).cases
    assert [c.threads for c in cases] == [3, 3]


@pytest.mark.parametrize(("value", "said"), [("[]", "threads"), ("[0]", "threads"), ("2", "threads = 2")])
def test_threads_that_are_none_are_refused(tmp_path, value, said):
    path = tmp_path / "bench.toml"
    path.write_text(TOML.replace("threads = [2, 4]", f"threads = {value}"))
    with pytest.raises(UsageError, match=r"suites\.a\.matrix\[0\]\." + said):
        load(path)


def test_the_shipped_sweep_is_no_full_product():
    cases = make(load(SHIPPED), "sweep", Overrides(), {}).cases
    assert Counter(case.model.name for case in cases) == {
        "nextvit_small": 13,
        "timm/resnet50": 13,
        "timm/mobilenetv2_100": 13,
    }
    of_one = [case for case in cases if case.model.name == "nextvit_small"]
    assert sum(case.threads == 2 for case in of_one) == 4
    assert sum(case.precision == "int8" for case in of_one) == 3


def test_a_matrix_of_the_command_line_is_reported_as_a_sweep(project):
    answer = project.bench(
        "--suite",
        "tiny",
        "--model",
        "block/ncb",
        "--resolution",
        "14",
        "--batch-size",
        "1,2",
        "--threads",
        "1,2",
    )
    assert answer.code == 0, answer.err
    block = answer.out[answer.out.index("Scaling") :]
    assert "\n    batch 2 over 1: " in block
    assert "\n    2 threads over 1: " in block
    page = (project.folder / "results/tiny.html").read_text()
    assert 'id="scaling"' in page
    assert "ncb: batch size and threads" in page
    one = project.bench("--suite", "tiny", "--model", "block/ncb", "--resolution", "14")
    assert "Scaling" not in one.out
    page = (project.folder / "results/tiny.html").read_text()
    assert 'id="scaling"' not in page
    assert 'id="cost"' not in page
    assert ">1 case</output>" in page
