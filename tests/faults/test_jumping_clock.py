"""The wall clock jumps by days, back and forth, in every process of a suite: only dates are of that clock."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

SUITE = """
[suites.clock]
description = "Two runtimes, one of them real"
backends = ["simulated", "onnxruntime"]

[[suites.clock.matrix]]
models = ["block/ncb"]
shapes = ["7x7x64", "14x14x64"]
"""
# Python runs this file of PYTHONPATH before anything else: each reading is days off from the one before.
JUMPING = """
import os, random, time
_jump = random.Random(os.getpid())
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _jump.uniform(-1e6, 1e6)
time.time_ns = lambda: _time_ns() + _jump.randint(-10**15, 10**15)
"""
HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS


@pytest.fixture
def jumping(suites, put_artifacts):
    suites.configure(SUITE, rounds=3)
    put_artifacts("clock", "onnxruntime")
    folder = suites.folder / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING)
    suites.environment["PYTHONPATH"] = f"{folder}:{suites.environment['PYTHONPATH']}"
    return suites


def assert_dates_jumped(store: Path) -> None:
    """The suite's process and the measuring ones had the jumping clock, so their dates are far from today.

    A jump of less than an hour is rare (4 in 1000), so of some of each kind one is longer.
    """
    now_ns = time.time_ns()
    with closing(sqlite3.connect(store)) as db:
        runs = [row[0] for row in db.execute("SELECT started_at_ns FROM runs")]
        runs += [row[0] for row in db.execute("SELECT finished_at_ns FROM runs")]
        runs += [row[0] for row in db.execute("SELECT started_at_ns FROM sessions")]
        rounds = [json.loads(row[0])["started_at_ns"] for row in db.execute("SELECT facts FROM records")]
    for dates in (runs, rounds):
        assert max(abs(date - now_ns) for date in dates) > HOUR_NS
    assert max(rounds) - min(rounds) > HOUR_NS


def test_a_suite_is_measured_resumed_and_compared(jumping):
    answer = jumping.bench("--suite", "clock", "--json")
    assert answer.code == 0, answer.err
    cases = answer.json["cases"]
    assert [case["summary"]["rounds"] for case in cases] == [3] * len(cases)
    (session,) = answer.json["sessions"]
    assert 0 < session["wall_ns"] < DAY_NS
    assert all(0 <= value < DAY_NS for value in session["ledger"].values())
    with closing(sqlite3.connect(jumping.store)) as db:
        assert db.execute("SELECT max(length(samples)) FROM records").fetchone()[0] > 0
    assert_dates_jumped(jumping.store)

    shown = jumping.bench("--suite", "clock", "--json")
    assert shown.code == 0
    assert "shown from the store" in shown.err
    assert jumping.bench("--suite", "clock", "--fresh").code == 0
    compared = jumping.bench("compare", "latest", "latest~1", "--json")
    assert compared.code == 0, compared.err
    assert len(compared.json["cases"]) == len(cases)
    told = jumping.bench("history", "onnxruntime", "--json")
    assert told.code == 0, told.err
    orders = [[point["run_id"] for point in series["points"]] for series in told.json["series"]]
    assert orders == [[1, 2]] * len(orders)
    assert orders
    jumping.assert_nothing_left()


def test_no_sample_is_of_the_wall_clock(jumping):
    """An inference of microseconds would take days by it, or end before it began."""
    assert jumping.bench("--suite", "clock").code == 0
    assert_dates_jumped(jumping.store)
    with closing(sqlite3.connect(jumping.store)) as db:
        rows = db.execute("SELECT samples FROM records WHERE kind = 'round'").fetchall()
    samples_ns = np.concatenate([np.frombuffer(blob, "<i8") for (blob,) in rows])
    assert 0 < samples_ns.min() <= samples_ns.max() < 60 * 10**9
