"""Two suites at once on one device, each with its own store: one measures, the other waits or is told."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.conftest import wait_for

SUITE = """
[suites.long]
description = "Goes on while the other one is started"
backends = ["null"]

[[suites.long.matrix]]
models = ["block/ncb", "block/ntb"]
shapes = ["7x7x64", "14x14x64"]
"""


def test_the_second_is_refused_and_measures_when_the_device_is_free(suites):
    suites.configure(SUITE, rounds=6)
    first = suites.start("--suite", "long")
    wait_for(lambda: suites.store.exists() and any(suites.locks.glob("cpu*.lock")) and suites.held_locks())
    other = suites.folder / "other.db"
    second = suites.start("--suite", "long", "--store", str(other))
    _, err = second.communicate(timeout=300)
    assert first.wait(timeout=300) == 0
    first_errors = first.communicate()[1]
    assert "Traceback" not in err + first_errors
    if second.returncode:  # it did not wait long enough for the device
        assert second.returncode == 1, err
        assert re.search(rf"process {first.pid}\b", err), err
        assert suites.records(other) == []
        assert suites.bench("--suite", "long", "--store", str(other)).code == 0
    assert len(suites.records()) == len(suites.records(other)) == 24
    assert max(starts_ns(suites.store)) < min(starts_ns(other))  # never in turns
    suites.assert_nothing_left()


def starts_ns(store: Path) -> list[int]:
    with closing(sqlite3.connect(store)) as db:
        return [json.loads(facts)["started_at_ns"] for (facts,) in db.execute("SELECT facts FROM records")]
