"""The table of Core ML packages is made of the stored rows, and has one for every network of the suite."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands.config import load
from commands.plan import Overrides, make
from models.spec import ModelSpec
from tests.validation import core_ml_packages as packages
from tests.validation.core_ml_packages import RESULTS, Row
from tests.validation.document import ROOT

ROW = Row(
    label="net at 224",
    where="2026-11-21, here",
    seconds=4.4,
    package_bytes=9_600_000,
    operators=124,
    transposes=0,
    reshapes=1,
    fp32=4.6e-6,
    fp32_tolerance=1e-4,
    fp16=4.5e-3,
    fp16_tolerance=0.1,
    forms=("five axes", "layout"),
)


def labels() -> list[str]:
    plan = make(load(ROOT / "bench.toml"), "variants", Overrides(), {})
    return [packages.label_of(case.model) for case in plan.cases]


def test_the_shipped_table_is_that_of_the_shipped_rows():
    rows = list(packages.read(RESULTS / "coreml-variants.json").values())
    table = (RESULTS / "coreml-variants.md").read_text()
    assert packages.document("variants", labels(), rows) == table
    assert {row.label for row in rows} <= set(labels())
    assert not [row.label for row in rows if row.failure]
    assert not [row.label for row in rows if row.fp32 > row.fp32_tolerance or row.fp16 > row.fp16_tolerance]


def test_a_row_is_read_as_it_was_stored(tmp_path):
    file = tmp_path / "coreml-made.json"
    failed = Row("other at 224", "2026-11-22, there", failure="fp16: error: mlpackage: no such operator")
    rows = {failed.label: failed, ROW.label: ROW}
    packages.store(file, [ROW.label, "third at 224", failed.label], rows)
    assert list(packages.read(file).values()) == [ROW, failed]
    text = file.with_suffix(".md").read_text()
    row = "| net at 224 | 4 | 9.6 | 124 | 0 | 1 | 4.6e-06 | 1e-04 | 4.5e-03 | 0.1 | five axes, layout |"
    assert row in text.splitlines()
    assert "1 of 3 networks" in text
    assert "- other at 224: fp16: error: mlpackage: no such operator" in text
    assert "- not taken so far: third at 224\n" in text
    assert "- 2026-11-21, here\n- 2026-11-22, there\n" in text


def test_only_what_is_missing_is_taken(tmp_path, monkeypatch):
    """Stored rows stay; one that failed is taken again."""
    asked: list[str] = []

    def taken(spec: ModelSpec) -> Row:
        asked.append(packages.label_of(spec))
        return replace(ROW, label=asked[-1])

    names = ["block/ncb at 14x14x384", "block/convnext at 14x14x384"]
    rows = {names[0]: replace(ROW, label=names[0]), names[1]: Row(names[1], "here", failure="fp16: no")}
    packages.store(tmp_path / "coreml-smoke.json", names, rows)
    monkeypatch.setattr(packages, "taken", taken)
    assert packages.main(["--suite", "smoke", "--missing", "--folder", str(tmp_path)]) == 0
    assert asked == ["block/bottleneck at 14x14x384", names[1]]
    assert len(packages.read(tmp_path / "coreml-smoke.json")) == 3


def test_a_tolerance_that_was_widened_is_told_with_its_digits():
    line = packages.table([replace(ROW, fp32_tolerance=6.152e-4, fp16_tolerance=0.25)]).splitlines()[-1]
    assert "| 6e-04 |" in line
    assert "| 0.25 |" in line


@pytest.mark.slow
@pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'")
def test_taken_for_real(tmp_path: Path):
    arguments = ["--suite", "smoke", "--models", "block/bottleneck", "--folder", str(tmp_path)]
    assert packages.main(arguments) == 0
    (row,) = packages.read(tmp_path / "coreml-smoke.json").values()
    assert row.label == "block/bottleneck at 14x14x384"
    assert row.operators == 9
    assert 0 < row.fp32 < 1e-4 < row.fp16 < 1e-2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'")
def test_a_conversion_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = make(load(ROOT / "bench.toml"), "smoke", Overrides(models=("block/ncb",)), {})
    wrong = replace(plan.cases[0].model, name="block/none")
    row = packages.taken(wrong)
    assert "unknown" in row.failure
    assert row.operators is None
