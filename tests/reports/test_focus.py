"""One model against all others: ratios from paired rounds, ties named, nothing without a focus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports import focus
from reports.tables import build


def with_focus(run, name):
    return replace(run, info=replace(run.info, config={**run.info.config, "focus": name}))


def test_without_a_focus_nothing_is_said(blocks_run):
    assert focus.sentence(build(blocks_run)) == ""
    assert focus.grid(build(blocks_run)) is None


def test_a_focus_that_was_not_measured_is_no_focus(blocks_run):
    table = build(with_focus(blocks_run, "block/unknown"))
    assert focus.sentence(table) == ""
    assert focus.grid(table) is None


def test_the_grid_holds_every_other_model_and_shape(blocks_run):
    table = build(with_focus(blocks_run, "block/ncb"))
    grid = focus.grid(table)
    assert grid is not None
    names = [line.cells[0].text for line in grid.lines]
    assert "ncb" not in names
    assert len(names) == len(set(names)) >= 9
    assert [head[0] for head in grid.heads[1:]] == ["56x56x96", "28x28x192", "14x14x384", "7x7x768"]


def test_ratios_are_the_others_time_over_the_focus(blocks_run):
    table = build(with_focus(blocks_run, "block/ncb"))
    grid = focus.grid(table)
    assert grid is not None
    facet = next(f for f in table.facets if f.title == "14x14x384")
    times = {row.label: row.summary.median_ns for row in facet.rows}
    column = [head[0] for head in grid.heads].index("14x14x384")
    for line in grid.lines:
        cell = line.cells[column]
        if cell.sort is not None:
            assert cell.sort == pytest.approx(times[line.cells[0].text] / times["ncb"], rel=0.05)


def test_the_sentence_names_the_first_others_of_the_plan(blocks_run):
    text = focus.sentence(build(with_focus(blocks_run, "block/ncb")))
    assert text.startswith("Against ncb: ntb ")
    assert "bottleneck" in text
    assert "convnext" in text
    assert "the time" in text


def test_a_tie_is_called_one(blocks_run):
    """The focus itself under a second name: same rounds, another model."""
    result = next(r for r in blocks_run.results if r.case.model.name == "block/ncb" and r.case.fused)
    twin = replace(result, case=replace(result.case, model=replace(result.case.model, name="block/twin")))
    ids = (result.case.id, twin.case.id)
    info = replace(blocks_run.info, case_ids=ids)
    table = build(with_focus(replace(blocks_run, info=info, results=(result, twin)), "block/ncb"))
    assert focus.sentence(table) == "Against ncb: twin ties."
