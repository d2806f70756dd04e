"""`history`: every run of a case in order, series kept apart, changes where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def twelve_runs(stored, tmp_path_factory) -> Path:
    """Twelve runs of ncb, 6 % slower from run 7 on, and one on another machine."""
    path = tmp_path_factory.mktemp("twelve") / "bench.db"
    for at in range(12):
        level = 2e6 * (1.06 if at >= 6 else 1.0) * (1.0 + 0.002 * (at % 3))
        stored.add_run(path, {stored.NCB: level, stored.BOTTLENECK: 1e6}, at=at, seed=at, rounds=3)
    stored.add_run(path, {stored.NCB: 1e6}, at=12, machine="another", rounds=3)
    return path


@pytest.fixture
def runs(project, twelve_runs):
    (project.folder / "results").mkdir()
    shutil.copy(twelve_runs, project.folder / "results/bench.db")
    return project


def test_a_change_is_marked_where_it_is(runs):
    value = json.loads(runs.bench("history", "ncb", "14x14x384", "--json").out)
    ours, other = value["series"]
    assert [point["run_id"] for point in ours["points"]] == list(range(1, 13))
    (change,) = ours["changes"]
    assert change["run_id"] == 7
    assert change["ratio"] == pytest.approx(1.06, abs=0.01)
    assert [point["run_id"] for point in other["points"]] == [13]
    point = ours["points"][0]
    assert point["low_ns"] < point["median_ns"] < point["high_ns"]
    assert point["revision"] == "0123456789ab"


def test_the_medians_are_those_of_the_report(runs):
    value = json.loads(runs.bench("history", "ncb", "--json").out)
    exported = runs.folder / "run.json"
    assert runs.bench("export", "--format", "json", "--run", "3", "-o", str(exported)).code == 0
    case = json.loads(exported.read_text())["cases"][0]["summary"]
    point = value["series"][0]["points"][2]
    for name in ("median_ns", "low_ns", "high_ns"):
        assert point[name] == pytest.approx(case[name], rel=1e-12)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_terminal(runs, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    answer = runs.bench("history", "ncb", "--last", "4")
    assert answer.code == 0, answer.err
    assert max(map(len, answer.out.splitlines())) <= width
    assert "1 change of level in 12 runs" in answer.out
    assert "8 earlier runs" in answer.out
    assert "from run 7 on" in " ".join(answer.out.split())
    assert any(
        set(line.strip()) <= set("▁▂▃▄▅▆▇█") and len(line.strip()) == 12 for line in answer.out.splitlines()
    )


def test_the_report_has_a_section_with_a_figure(runs):
    page = runs.folder / "out.html"
    answer = runs.bench("history", "ncb", "--report", str(page))
    assert answer.code == 0, answer.err
    text = page.read_text()
    assert '<section id="history">' in text
    assert 'id="figure-history-1"' in text


def test_protocols_are_series_of_their_own(runs, stored):
    stored.add_run(runs.folder / "results/bench.db", {stored.NCB: 2e6}, at=20, threads=2)
    value = json.loads(runs.bench("history", "ncb", "--json").out)
    assert len({series["protocol_id"] for series in value["series"]}) == 2
    assert len(value["series"]) == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "name a case or a model"),
        (["nbc"], "did you mean ncb"),
        (["ncb", "7x7x384"], "has no case"),
        (["ncb", "--last", "0"], "--last: '0'"),
    ],
)
def test_bad_input(runs, argv, says):
    answer = runs.bench("history", *argv)
    assert answer.code == 2
    assert says in answer.err
