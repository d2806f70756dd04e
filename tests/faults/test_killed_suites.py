"""The suite's own process is killed at any moment: what was acknowledged is stored once, and it goes on."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

ROUNDS = 2
SUITE = """
[suites.kills]
description = "Two runtimes, one of them real"
backends = ["simulated", "onnxruntime"]

[[suites.kills.matrix]]
models = ["block/ncb"]
shapes = ["7x7x64", "14x14x64"]
"""
SMOKE = """
[suites.smoke]
description = "Three blocks that are converted first"

[[suites.smoke.matrix]]
models = ["block/ncb", "block/bottleneck", "block/convnext"]
shapes = ["14x14x384"]
"""


class Killer:
    """Starts one suite again and again, and kills it after a random time. Everything is checked each time."""

    def __init__(self, suites, suite: str, *, seed: int) -> None:
        self.suites, self.suite = suites, suite
        self.notes = suites.folder / "acknowledged"
        suites.environment["ACKNOWLEDGED"] = str(self.notes)
        self.chance = random.Random(seed)
        self.kills = 0
        self.complete = False

    def start(self, *options: str) -> subprocess.Popen[str]:
        again = ["--fresh"] if self.complete else []
        self.complete = False
        program = Path(__file__).with_name("acknowledging.py")
        return self.suites.start("--suite", self.suite, *again, *options, program=program)

    def kill_once(self, within_seconds: float) -> None:
        """One invocation; it counts where it was still running."""
        process = self.start()
        time.sleep(self.chance.uniform(0, within_seconds))
        process.kill()
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        self.complete = process.returncode == 0
        self.kills += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), errors
        self.check()

    def check(self) -> None:
        self.suites.assert_nothing_left()
        if not self.suites.store.exists():
            assert not self.acknowledged()
            return
        with closing(sqlite3.connect(self.suites.store)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            query = "SELECT record_id, run_id, case_id, kind, round_index, attempt FROM records"
            has_tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            stored = db.execute(query).fetchall() if has_tables else []
        acknowledged = self.acknowledged()
        assert len(set(acknowledged)) == len(acknowledged)
        assert set(acknowledged) <= {row[:5] for row in stored}
        places = [row[1:] for row in stored]
        assert len(set(places)) == len(places)
        assert len(stored) <= len(acknowledged) + self.kills  # each kill may hide one acknowledgement

    def acknowledged(self) -> list[tuple]:
        if not self.notes.exists():
            return []
        return [tuple(json.loads(line)) for line in self.notes.read_text().splitlines()]

    def complete_it(self, cases: int) -> None:
        """The same command without a kill."""
        process = self.start("--json")
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        value = json.loads(printed)
        assert [case["failure"] for case in value["cases"]] == [None] * cases
        assert [case["summary"]["rounds"] for case in value["cases"]] == [ROUNDS] * cases
        self.suites.assert_nothing_left()


def killer_of(suites, put_artifacts, *, seed: int) -> Killer:
    suites.configure(SUITE, rounds=ROUNDS)
    put_artifacts("kills", "onnxruntime")
    return Killer(suites, "kills", seed=seed)


def test_ten_kills_at_any_moment(suites, put_artifacts):
    killer = killer_of(suites, put_artifacts, seed=5)
    while killer.kills < 10:
        killer.kill_once(1.2)
    killer.complete_it(cases=4)


@pytest.mark.slow
def test_two_hundred_kills_at_any_moment(suites, put_artifacts):
    """As many before the first round as while the report is written."""
    killer = killer_of(suites, put_artifacts, seed=6)
    begun = time.monotonic()
    killer.complete_it(cases=4)
    usual_seconds = time.monotonic() - begun
    killer.complete = True
    while killer.kills < 200:
        killer.kill_once(usual_seconds)
    killer.complete_it(cases=4)
    assert len(killer.acknowledged()) >= 200


@pytest.mark.slow
def test_kills_while_blocks_are_converted_and_measured(suites):
    """From an empty cache, so that they strike the exporters' workers too; each goes a little further."""
    suites.configure(SMOKE, rounds=ROUNDS)
    killer = Killer(suites, "smoke", seed=7)
    while killer.kills < 30:
        killer.kill_once(20)
    killer.complete_it(cases=3)
