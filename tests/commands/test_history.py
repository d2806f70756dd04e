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


RUNTIMES = {"A": "runtime 1 on Example A (sm89)", "AB": "runtime 1 on Example AB (sm90)", "": "runtime 1"}


def on_gpus(project, stored, machines, *, device: str = "cuda"):
    """The series of a case whose runs had these GPUs in their machine, and one that the runtime names."""
    case = stored.case(device=device)
    for at, (gpus, named) in enumerate(machines):
        cards = {"gpus": [{"name": f"Example {name}", "target": "sm89"} for name in gpus]}
        told = {"device": device, "runtime": RUNTIMES[named]}
        stored.add_run(project.folder / "results/bench.db", {case: 1e6}, at=at, environment=cards, **told)
    value = json.loads(project.bench("history", "ncb", "--json").out)
    return [([point["run_id"] for point in one["points"]], one["machine"]) for one in value["series"]]


def test_two_cards_of_one_host_are_two_series(project, stored):
    """By what the runtime names, though both runs found both cards; a third card makes no new series."""
    found = on_gpus(project, stored, [(["A", "AB"], "A"), (["AB", "A"], "AB"), (["A", "AB", "C"], "A")])
    assert found == [([2], "Example CPU, Example AB"), ([1, 3], "Example CPU, Example A")]


def test_a_card_that_was_exchanged_begins_a_series(project, stored):
    """Where the runtime names none, all that the machine has tell."""
    found = on_gpus(project, stored, [(["A"], ""), (["A", "A"], ""), (["AB"], "")])
    assert found == [([1, 2], "Example CPU, Example A"), ([3], "Example CPU, Example AB")]


def test_cards_split_no_series_of_the_cpu(project, stored):
    found = on_gpus(project, stored, [(["A"], ""), (["AB"], ""), ([], "")], device="cpu")
    assert found == [([1, 2, 3], "Example CPU")]


def test_a_clock_that_was_set_back_moves_no_run(project, stored):
    """The level changes from the seventh run on; by their dates those would come first."""
    path = project.folder / "results/bench.db"
    hours = [*range(40, 46), *range(6)]
    for at, level in zip(hours, [*6 * [2e6], *6 * [2.2e6]], strict=True):
        stored.add_run(path, {stored.NCB: level * (1 + 1e-4 * at)}, at=at, seed=at, rounds=3)
    (series,) = json.loads(project.bench("history", "ncb", "--json").out)["series"]
    assert [point["run_id"] for point in series["points"]] == list(range(1, 13))
    assert [change["run_id"] for change in series["changes"]] == [7]


def test_imported_runs_stand_where_their_dates_are(project, stored, tmp_path):
    other = tmp_path / "other.db"
    for at in (5, 1):
        stored.add_run(other, {stored.NCB: 2e6}, at=at, seed=at + 50)
    path = project.folder / "results/bench.db"
    for at in (0, 2, 9):
        stored.add_run(path, {stored.NCB: 2e6}, at=at, seed=at)
    for run_id in ("1", "2"):
        file = tmp_path / f"{run_id}.json"
        written = ("--format", "records", "--run", run_id, "-o", str(file), "--store", str(other))
        assert project.bench("export", *written).code == 0
        assert project.bench("import", str(file)).code == 0
    (series,) = json.loads(project.bench("history", "ncb", "--json").out)["series"]
    assert [point["run_id"] for point in series["points"]] == [1, 5, 2, 4, 3]


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
