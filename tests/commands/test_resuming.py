"""Where a case without rounds begins when a run goes on, and which failures are not stored twice."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands.resuming import first_rounds, is_known
from commands.resuming import taken as taken_rounds
from models.spec import Case, ModelSpec
from reports.records import CaseResult, RunInfo, StoredRun
from reports.store import Store
from runners.measurement import Failure, Phases, Protocol, Round


def _helper():
    path = Path(__file__).with_name("carried.py")
    spec = importlib.util.spec_from_file_location("commands_carried", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


carried = _helper()
PROTOCOL = Protocol("simulated", "r", "cpu", 1, "simulated", "", "", "", "", 0)
FAILURE = Failure("conversion", "exported: no", "Do.", detail={"steps": [{"duration_ns": 5}]})


def taken(index: int) -> Round:
    samples = np.array([5, 6, 7], np.int64)
    return Round(index, 0, 0, PROTOCOL, 1, samples, samples, True, 0.0, Phases(), 0)


def stored(*rounds_of_cases: range, failure: Failure | None = None, finished: bool = False) -> StoredRun:
    """A run whose cases have these rounds; the last case failed last."""
    specs = [ModelSpec.of("block/ncb", resolution=14, in_channels=8 * (i + 1)) for i in range(9)]
    results = [
        CaseResult(Case(spec, "simulated"), rounds=tuple(map(taken, indices)))
        for spec, indices in zip(specs, rounds_of_cases, strict=False)
    ]
    results[-1] = replace(results[-1], failure=failure)
    ids = tuple(result.case.id for result in results)
    info = RunInfo(1, "s", "p", 0, 1, 2 if finished else None, "", {}, {}, ids)
    return StoredRun(info, tuple(results))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("rounds", "begins"),
    [
        ([range(0), range(0)], 0),
        ([range(1), range(0)], 1),
        ([range(2), range(2), range(0)], 2),
        ([range(5), range(5), range(0)], 5),
        ([range(5), range(9), range(0)], 9),
        ([range(9), range(9, 10), range(0)], 10),  # two are tried again, and the first has a round by now
        ([range(5), range(5), range(2)], 5),  # it failed in its third round
    ],
)
def test_a_second_try_is_numbered_after_all_rounds_of_others(rounds, begins, finished):
    run = stored(*rounds, failure=FAILURE, finished=finished)
    *others, failed = (result.case.id for result in run.results)
    found = first_rounds(run, min_rounds=5)
    assert found[failed] == begins
    assert [found[case_id] for case_id in others] == [0] * len(others)


@pytest.mark.parametrize(
    ("rounds", "begins"),
    [
        ([range(1), range(0)], 0),  # interrupted within the first round
        ([range(4), range(0)], 0),
        ([range(5), range(0)], 5),  # the interleaved rounds are over
    ],
)
def test_a_case_that_never_had_a_turn_takes_it_while_the_others_are_not_done(rounds, begins):
    run = stored(*rounds)
    assert first_rounds(run, min_rounds=5)[run.results[-1].case.id] == begins


def test_a_repeated_round_counts_once():
    run = stored(range(4))
    again = replace(run.results[0].rounds[-1], attempt=1)
    result = replace(run.results[0], rounds=(*run.results[0].rounds, again))
    assert taken_rounds(result) == 4


def test_a_failure_is_known_by_what_it_says_and_not_by_how_long_it_took():
    run = stored(range(5), range(0), failure=FAILURE)
    failed, other = run.results[1].case.id, run.results[0].case.id
    assert is_known(run, failed, FAILURE)
    assert is_known(run, failed, replace(FAILURE, detail={"steps": [{"duration_ns": 6}]}))
    assert not is_known(run, failed, replace(FAILURE, message="exported: never"))
    assert not is_known(run, failed, replace(FAILURE, built=True))
    assert not is_known(run, other, FAILURE)


def test_a_case_that_failed_with_rounds_goes_on_after_all_others(project):
    """Its missed rounds would be paired with the others' of another day."""
    assert project.bench("--suite", "tiny").code == 0
    path = project.folder / "results/bench.db"
    with Store(path) as store:
        case_id = store.load_run(1).results[0].case.id
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM records WHERE case_id = ? AND round_index > 0", (case_id,))
        db.close()
        store.append(1, case_id, replace(FAILURE, round_index=1), artifact=None)
    assert project.bench("--suite", "tiny").code == 0
    assert [row[2] for row in records(project) if row[:2] == (case_id, "round")] == [0, 3, 4]


def records(project) -> list[tuple[object, ...]]:
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        return db.execute("SELECT case_id, kind, round_index FROM records ORDER BY record_id").fetchall()


def run_row(project) -> tuple[object, ...]:
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        return (
            *db.execute("SELECT started_at_ns, finished_at_ns FROM runs").fetchone(),
            *db.execute("SELECT count(*) FROM sessions").fetchone(),
        )


def test_a_case_that_failed_is_tried_again_after_all_others(project):
    assert project.bench("--suite", "tiny").code == 0
    failed = carried.fail_first_case(project.folder / "results/bench.db")
    with Store(project.folder / "results/bench.db") as store:
        store.reopen_run(1)  # as a second try leaves it that is interrupted
    assert project.bench("--suite", "tiny").code == 0
    assert [row[2] for row in records(project) if row[:2] == (failed, "round")] == [3, 4, 5]


def test_an_invocation_that_adds_nothing_leaves_a_finished_run_as_it_is(project):
    assert project.bench("--suite", "tiny").code == 0
    row, page = run_row(project), (project.folder / "results/tiny.html").read_bytes()
    assert project.bench("--suite", "tiny").code == 0
    assert run_row(project) == row
    assert (project.folder / "results/tiny.html").read_bytes() == page


def test_a_second_try_that_is_interrupted_at_once_leaves_the_run_finished(project, monkeypatch):
    assert project.bench("--suite", "tiny").code == 0
    failed = carried.fail_first_case(project.folder / "results/bench.db")
    row = run_row(project)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("commands.recording.measure", interrupt)
        assert project.bench("--suite", "tiny").code == 130
    assert run_row(project) == row
    assert project.bench("--suite", "tiny").code == 0
    assert [row[2] for row in records(project) if row[:2] == (failed, "round")] == [3, 4, 5]


def test_a_conversion_that_fails_again_is_stored_once(project):
    """Swin's windows do not fit this resolution, which is found when it is built, in a worker."""
    argv = ["--suite", "nets", "--model", "timm/swin_tiny_patch4_window7_224", "--resolution", "200"]
    first = project.bench(*argv, "--json")
    assert first.code == 1
    failure = json.loads(first.out)["cases"][0]["failure"]
    assert failure["kind"] == "conversion"
    row = run_row(project)
    again = project.bench(*argv, "--json")
    assert again.code == 1
    assert json.loads(again.out)["cases"][0]["failure"] == failure
    assert [kind for _, kind, _ in records(project)] == ["failure"]
    assert run_row(project) == row
