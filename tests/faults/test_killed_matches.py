"""A suite with a table `match` is killed among its trainings: what was acknowledged is never repeated."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from reports.store import Store
from tests.faults.conftest import wait_for

SUITE = """
[suites.pair]
description = "Two small networks"

[suites.pair.match]
reference = "blocknet/poolformer"
reference_setting = 3
models = ["blocknet/bottleneck"]
settings = "3-3"
tolerance = 0.6
rounds = 2
seeds = 1
epochs = 1
"""


class Trained:
    """The suite as processes, and which evaluations were acknowledged, by the digests of their trainings."""

    def __init__(self, suites) -> None:
        self.suites, self.notes = suites, suites.folder / "acknowledged"
        suites.environment.update({"ACKNOWLEDGED": str(self.notes), "OMP_NUM_THREADS": "1"})
        suites.configure(SUITE)

    def start(self, *options: str):
        program = Path(__file__).with_name("acknowledging.py")
        return self.suites.start("--suite", "pair", "--json", *options, program=program)

    def complete(self, *options: str) -> tuple[dict, str]:
        process = self.start(*options)
        printed, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        return json.loads(printed), errors

    def acknowledged(self) -> list[str]:
        if not self.notes.exists():
            return []
        lines = [json.loads(line) for line in self.notes.read_text().splitlines()]
        return [line[2] for line in lines if line[1] == "evaluation"]

    def stored(self) -> list:
        with Store(self.suites.store, read_only=True) as store:
            return store.evaluations()


@pytest.mark.slow
def test_a_kill_among_the_trainings_costs_the_one_that_was_under_way(suites):
    trained = Trained(suites)
    process = trained.start()
    wait_for(lambda: trained.acknowledged() or process.poll() is not None, 600)
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    suites.assert_nothing_left()
    (first,) = trained.acknowledged()
    rounds = suites.records()
    assert len({(case_id, index) for _, case_id, _, index, _ in rounds}) == 4
    unfinished = suites.bench("report", "--json").json["matched"]["networks"]
    assert [len(each["top1"]) for each in unfinished] == [1, 0]

    told, errors = trained.complete()
    assert "resuming run 1" in errors
    assert "top-1" in errors
    assert "from the store" in errors
    assert suites.records() == rounds
    assert trained.acknowledged()[0] == first
    assert len(set(trained.acknowledged())) == len(trained.acknowledged()) == 2
    assert [one.file.training for one in trained.stored()] == trained.acknowledged()
    assert [len(each["top1"]) for each in told["networks"]] == [1, 1]
    page = suites.folder / "results/pair.html"
    of_the_suite = page.read_bytes()
    report = suites.bench("report", "--run", "1", "--json").json
    assert report["matched"]["networks"] == told["networks"]
    assert page.read_bytes() == of_the_suite
    assert b'<section id="matched">' in of_the_suite

    process = trained.start("--fresh")
    wait_for(lambda: len(trained.acknowledged()) == 3 or process.poll() is not None, 600)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert "trainings are stored; the same command without --fresh goes on from there" in errors
    suites.assert_nothing_left()
    afresh, _ = trained.complete()
    assert afresh["run_id"] == 2
    assert len(trained.acknowledged()) == 3
    assert [each["top1"] for each in afresh["networks"]] == [each["top1"] for each in told["networks"]]
    once, _, again = trained.stored()
    assert once.file.training == again.file.training
    assert np.array_equal(once.predicted, again.predicted)  # a training is a function of its digest
