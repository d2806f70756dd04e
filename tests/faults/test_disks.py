"""A disk that is full or may not be written, and a limit on file sizes: said clearly, and nothing lost."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing

import pytest

SUITE = """
[paths]
store = "{store}"
reports = "{reports}"
artifacts = "{artifacts}"

[suites.tiny]
description = "Two simulated cases"
backends = ["simulated"]

[[suites.tiny.matrix]]
models = ["block/ncb", "block/bottleneck"]
shapes = ["14x14x384"]

[suites.real]
description = "One case whose file must be made"

[[suites.real.matrix]]
models = ["block/ncb"]
shapes = ["7x7x32"]
"""
FILLED = b"x" * 3000


def configure(suites, **places) -> None:
    usual = {"store": "results/bench.db", "reports": "results", "artifacts": "artifacts"}
    suites.configure(SUITE.format(**{**usual, **{name: str(path) for name, path in places.items()}}))


def one_line(errors: str) -> str:
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    return line


@pytest.mark.slow
def test_a_full_disk_under_the_store(suites, disk):
    store = disk.folder / "bench.db"
    configure(suites, store=store)
    assert suites.bench("--suite", "tiny").code == 0
    before = suites.records(store)
    disk.fill(leave_bytes=8192)
    answer = suites.bench("--suite", "tiny", "--fresh")
    assert answer.code in (1, 2)  # before or after the run was begun
    assert str(store) in one_line(answer.err)
    assert "free some space" in answer.err or "disk full" in answer.err
    disk.free()
    assert suites.records(store)[: len(before)] == before
    again = suites.bench("--suite", "tiny", "--json")
    assert again.code == 0, again.err
    assert [case["summary"]["rounds"] for case in again.json["cases"]] == [2, 2]
    suites.assert_nothing_left()


@pytest.mark.slow
def test_a_disk_that_fills_up_while_it_is_measured(suites, disk):
    """Samples of a first run leave room for some rounds of a second."""
    store = disk.folder / "bench.db"
    configure(suites, store=store)
    assert suites.bench("--suite", "tiny").code == 0
    before = suites.records(store)
    disk.fill(leave_bytes=120_000)
    codes, errors = [], ""
    while not codes or codes[-1] == 0:
        assert len(codes) < 50
        answer = suites.bench("--suite", "tiny", "--fresh")
        codes.append(answer.code)
        errors = answer.err
    assert str(store) in one_line(errors)
    full = suites.records(store)
    assert full[: len(before)] == before
    disk.free()
    assert suites.bench("--suite", "tiny").code == 0
    assert suites.records(store)[: len(full)] == full


@pytest.mark.slow
def test_a_full_disk_under_the_artifacts(suites, disk):
    root = disk.folder / "artifacts"
    configure(suites, artifacts=root)
    disk.fill()
    for suite in ("tiny", "real"):
        answer = suites.bench("--suite", suite)
        assert answer.code == 2, answer.err
        line = one_line(answer.err)
        assert str(root) in line, line
        assert "free space" in line, line
    disk.free()
    assert suites.bench("--suite", "tiny").code == 0


def test_a_full_disk_under_the_report(suites, disk):
    configure(suites, reports=disk.folder)
    page = disk.folder / "tiny.html"
    page.write_bytes(FILLED)
    disk.fill()
    answer = suites.bench("--suite", "tiny")
    assert answer.code == 1
    assert f"cannot write {page}: No space left on device" in one_line(answer.err)
    assert "bottleneck" in answer.out  # the numbers are shown all the same
    assert page.read_bytes() == FILLED
    assert not list(disk.folder.glob(".*"))
    disk.free()
    assert suites.bench("report", "-o", str(page)).code == 0
    assert len(page.read_bytes()) > len(FILLED)


def limit_files(size_bytes: int):
    """As `ulimit -f` does; Python ignores the signal, so that writing fails with an error."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return limit


@pytest.mark.slow
def test_a_limit_on_file_sizes(suites):
    """First the report is too large for it, then the store."""
    configure(suites)
    answer = suites.bench("--suite", "tiny", preexec_fn=limit_files(1_000_000))
    assert answer.code == 1
    assert "tiny.html: File too large" in one_line(answer.err)
    before = suites.records()
    assert len({row[:4] for row in before}) == 4
    answer = suites.bench("--suite", "tiny", "--fresh", preexec_fn=limit_files(40_000))
    assert answer.code in (1, 2)
    assert str(suites.store) in one_line(answer.err)
    assert suites.records()[: len(before)] == before
    assert suites.bench("--suite", "tiny").code == 0


@pytest.mark.slow
def test_a_read_only_store(suites, disk):
    store = disk.folder / "bench.db"
    configure(suites, store=store)
    assert suites.bench("--suite", "tiny").code == 0
    content = store.read_bytes()
    disk.read_only()
    try:
        for argv in (["--suite", "tiny"], ["--suite", "tiny", "--fresh"]):
            answer = suites.bench(*argv)
            assert answer.code == 2, answer.err
            line = one_line(answer.err)
            assert str(store) in line
            assert "writable" in line or "--store" in line
        shown = suites.bench("report")
        assert shown.code == 0, shown.err
        assert "bottleneck" in shown.out
    finally:
        disk.writable()
    assert store.read_bytes() == content


@pytest.mark.slow
def test_read_only_artifacts(suites, disk):
    root = disk.folder / "artifacts"
    configure(suites, artifacts=root)
    root.mkdir()
    disk.read_only()
    for suite in ("tiny", "real"):
        answer = suites.bench("--suite", suite)
        assert answer.code == 2, answer.err
        assert str(root) in one_line(answer.err)
    disk.writable()


@pytest.fixture(autouse=True)
def sound_store(suites):
    """Whatever happened, the usual store is whole."""
    yield
    if suites.store.exists():
        with closing(sqlite3.connect(suites.store)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
