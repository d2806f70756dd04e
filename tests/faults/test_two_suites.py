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
backends = ["onnxruntime"]

[[suites.long.matrix]]
models = ["block/ncb", "block/ntb"]
shapes = ["7x7x64", "14x14x64"]
"""


def test_they_take_turns_and_never_measure_at_once(suites, put_artifacts):
    suites.configure(SUITE, rounds=6)
    put_artifacts("long", "onnxruntime")
    other = suites.folder / "other.db"
    with suites.start("--suite", "long") as first:
        wait_for(suites.held_locks)
        with suites.start("--suite", "long", "--store", str(other)) as second:
            _, err = second.communicate(timeout=300)
        _, first_errors = first.communicate(timeout=300)
    assert first.returncode == 0, first_errors
    assert "Traceback" not in err + first_errors
    if second.returncode:  # it did not wait long enough for the device
        assert second.returncode == 1, err
        assert re.search(rf"process {first.pid}\b", err), err
        assert suites.records(other) == []
        assert suites.bench("--suite", "long", "--store", str(other)).code == 0
    for store in (suites.store, other):  # a disturbed round is taken twice
        assert sum(attempt == 0 for *_, attempt in suites.records(store)) == 24
    one, two = spans(suites.store), spans(other)
    assert not [(mine, yours) for mine in one for yours in two if mine[0] < yours[1] and yours[0] < mine[1]]
    suites.assert_nothing_left()


def spans(store: Path) -> list[tuple[int, int]]:
    """From the start of each measuring process to the end of its timed part, as it says itself."""
    parts = ("import_ns", "load_ns", "verify_ns", "warmup_ns", "timed_ns")
    with closing(sqlite3.connect(store)) as db:
        facts = [json.loads(row[0]) for row in db.execute("SELECT facts FROM records")]
    return [
        (f["started_at_ns"], f["started_at_ns"] + sum(f["phases"][name] for name in parts)) for f in facts
    ]
