"""A store whose bytes were changed: what is read is what was stored, or an error says that it is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.codec import encode
from reports.records import StoredRun
from reports.store import Store, StoreError

ROUNDS = 6
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def whole(sample: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two cases, closed, so that all of it is in one file."""
    path = tmp_path_factory.mktemp("whole") / "bench.db"
    _fill(path, sample)
    assert not path.with_name("bench.db-wal").exists()
    return path


@pytest.fixture(scope="module")
def logged(sample: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a killed writer leaves it: the tables in the file, the records in the log beside it."""
    path = tmp_path_factory.mktemp("logged") / "bench.db"
    with Store(path):
        pass
    kept = path.with_name("kept")
    kept.mkdir()
    _fill(
        path, sample, before_close=lambda: [shutil.copy(one, kept) for one in path.parent.glob("bench.db*")]
    )
    assert kept.joinpath("bench.db-wal").stat().st_size > kept.joinpath("bench.db").stat().st_size
    return kept / "bench.db"


def _fill(path: Path, sample: Any, before_close: Callable[[], object] = lambda: None) -> None:
    cases = [sample.block_case(name, 14, 384) for name in ("block/ncb", "block/ntb")]
    with Store(path) as store:
        info = store.begin_run(
            suite="blocks", plan_digest="p", seed=7, command="c", config={"timing": {"target": 0.01}},
            environment=sample.ENVIRONMENT, cases=cases,
        )  # fmt: skip
        for index in range(ROUNDS):
            for case in cases:
                store.append(info.run_id, case.id, sample.make_round(2e6, index=index), artifact=None)
        store.finish_run(info.run_id)
        before_close()


def _told(run: StoredRun) -> list[str]:
    """All that was measured and how; not when the run ended, a value that changes and has no checksum."""
    facts = str(replace(run.info, finished_at_ns=None))
    rounds = [
        (result.case.id, r.to_dict(), r.samples_ns.tolist()) for result in run.results for r in result.rounds
    ]
    return [facts, *map(encode, rounds)]


def _read(path: Path) -> list[str] | None:
    """What the store says of its run; None where it says that it is damaged."""
    try:
        with Store(path) as store:
            return _told(store.load_run(1))
    except StoreError:
        return None


def _copy(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for one in source.parent.glob("bench.db*"):
        shutil.copy(one, folder)
    return folder / "bench.db"


@PROPERTY
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, place: float, mask: int
) -> None:
    path = _copy(whole, tmp_path_factory)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= mask
    path.write_bytes(content)
    assert _read(path) in (None, _read(whole))


@PROPERTY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_short(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = _copy(whole, tmp_path_factory)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert _read(path) in (None, _read(whole))


@PROPERTY
@given(share=st.floats(0, 1, exclude_max=True), mask=st.integers(0, 255))
def test_a_log_that_was_cut_or_changed(
    logged: Path, tmp_path_factory: pytest.TempPathFactory, share: float, mask: int
) -> None:
    """SQLite reads a log up to its first damaged page: later records are lost, none is altered."""
    path = _copy(logged, tmp_path_factory)
    log = path.with_name("bench.db-wal")
    content = bytearray(log.read_bytes())
    place = int(share * len(content))
    log.write_bytes(
        content[:place] + (bytes([content[place] ^ mask]) + content[place + 1 :] if mask else b"")
    )
    found, complete = _read(path), _read(_copy(logged, tmp_path_factory))
    assert complete is not None
    assert found is None or set(found) <= set(complete)
