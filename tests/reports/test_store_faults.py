"""What a store must withstand: killed writers, full disks, other versions, damaged and foreign files."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reports import schema
from reports.store import DuplicateRecordError, Store, StoreError

APPENDER = Path(__file__).with_name("appender.py")
KILLS = 20


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file itself, behind the store's back; committed and closed at the end."""
    with closing(sqlite3.connect(path)) as raw, raw:
        yield raw


def appender(store: Path, run_id: int, case_id: str, start: int, *, samples: int = 200, limit: int = 0):
    arguments = [str(v) for v in (store, run_id, case_id, start, samples, *([limit] if limit else []))]
    search = os.pathsep.join((str(APPENDER.parents[2]), str(APPENDER.parent)))
    return subprocess.Popen(
        [sys.executable, str(APPENDER), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )


def is_intact(path: Path) -> bool:
    with opened(path) as raw:
        found = (
            raw.execute("PRAGMA integrity_check").fetchall(),
            raw.execute("PRAGMA foreign_key_check").fetchall(),
        )
    return found == ([("ok",)], [])


def test_a_killed_writer_loses_no_record_and_doubles_none(tmp_path, begin):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
    chance = random.Random(5)
    acknowledged: list[int] = []
    for _ in range(KILLS):
        start = max(acknowledged, default=-1) + 2  # the round after the last one may or may not be stored
        writer = appender(path, info.run_id, info.case_ids[0], start)
        select.select([writer.stdout], [], [], 30)  # a readline would take more lines into a buffer
        time.sleep(chance.uniform(0.0, 0.03))
        writer.send_signal(signal.SIGKILL)
        printed, errors = writer.communicate(timeout=30)
        assert writer.returncode == -signal.SIGKILL, errors
        acknowledged += [int(line) for line in printed.split()]
    assert is_intact(path)
    with Store(path) as store:
        result = store.load_run(info.run_id).results[0]
    stored = [r.round_index for r in result.rounds]
    assert len(acknowledged) >= KILLS
    assert len(stored) == len(set(stored)) == result.attempts
    assert set(acknowledged) <= set(stored)
    assert len(set(stored) - set(acknowledged)) <= KILLS  # at most the one that each kill cut off


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path, begin, sample):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
        store.append(info.run_id, info.case_ids[1], sample.make_round(2e6), artifact=None)
    writer = appender(path, info.run_id, info.case_ids[0], 0, samples=3000, limit=600_000)
    output, errors = writer.communicate(timeout=60)
    assert writer.returncode == 1, errors
    *acknowledged, message = output.splitlines()
    assert acknowledged
    assert message.startswith(f"error: {path} ")
    assert "Nothing stored before is lost" in message
    assert is_intact(path)
    with Store(path) as store:
        first, second = store.load_run(info.run_id).results
        assert [r.round_index for r in first.rounds] == [int(line) for line in acknowledged]
        assert len(second.rounds) == 1
        store.append(info.run_id, info.case_ids[0], sample.make_round(2e6, index=9999), artifact=None)


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root and mount(8)")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_is_a_clear_error_and_space_makes_it_work_again(small_disk, begin, sample):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    with Store(small_disk / "bench.db") as store:
        info = begin(store)

        def put(index: int) -> None:
            taken = sample.make_round(2e6, index=index, count=2000)
            store.append(info.run_id, info.case_ids[0], taken, artifact=None)

        def fill() -> None:
            for index in range(1000):
                put(index)

        def stored() -> list[int]:
            return [r.round_index for r in store.load_run(info.run_id).results[0].rounds]

        with pytest.raises(StoreError, match=r"bench\.db cannot .* Nothing stored before is lost"):
            fill()
        kept = stored()
        assert kept == list(range(len(kept)))
        assert kept
        ballast.unlink()
        put(len(kept))
        assert stored() == [*kept, len(kept)]


def test_a_newer_schema_is_refused_and_left_alone(tmp_path, begin):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        begin(store)
    with opened(path) as raw:
        raw.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match=rf"version {schema.SCHEMA_VERSION + 1}, newer.*update the program"):
        Store(path)
    with opened(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION + 1,)
    assert list(tmp_path.glob("*.bak")) == []


@pytest.fixture
def next_version(monkeypatch):
    """A program one schema version ahead, which adds a column."""

    def install(script: str) -> int:
        version = schema.SCHEMA_VERSION
        monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, version: script})
        monkeypatch.setattr(schema, "SCHEMA_VERSION", version + 1)
        return version

    return install


def test_an_older_file_is_migrated_after_a_backup(tmp_path, begin, sample, next_version):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
        store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=None)
    version = next_version("ALTER TABLE runs ADD COLUMN note TEXT; UPDATE runs SET note = 'migrated'")
    with Store(path) as store:
        assert len(store.load_run(info.run_id).results[0].rounds) == 1
    with opened(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (version + 1,)
        assert raw.execute("SELECT note FROM runs").fetchall() == [("migrated",)]
    with opened(tmp_path / f"bench.db.v{version}.bak") as backup:
        assert backup.execute("PRAGMA user_version").fetchone() == (version,)
        assert backup.execute("SELECT count(*) FROM records").fetchone() == (1,)
    with Store(path):
        assert [p.name for p in tmp_path.glob("*.bak.*")] == []


def test_a_failing_migration_changes_nothing_and_keeps_every_backup(tmp_path, begin, next_version):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        begin(store)
    version = next_version("ALTER TABLE runs ADD COLUMN note TEXT; INSERT INTO nowhere VALUES (1)")
    for _ in range(2):
        with pytest.raises(StoreError, match="nowhere"):
            Store(path)
    with opened(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (version,)
        assert "note" not in [column[1] for column in raw.execute("PRAGMA table_info(runs)")]
    assert len(list(tmp_path.glob("*.bak*"))) == 2


def test_an_older_file_without_a_known_migration_is_refused(tmp_path, begin, monkeypatch):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        begin(store)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match="no migration"):
        Store(path)
    with pytest.raises(StoreError, match="run a suite with this store once"):
        Store(path, read_only=True)


def test_a_truncated_file_is_an_error_not_a_new_store(tmp_path, begin, sample):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
        for index in range(20):
            taken = sample.make_round(2e6, index=index, count=500)
            store.append(info.run_id, info.case_ids[0], taken, artifact=None)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    def read() -> None:
        with Store(path) as store:
            store.load_run(info.run_id)

    with pytest.raises(StoreError, match=r"is damaged; restore a backup"):
        read()
    assert len(path.read_bytes()) == len(whole) // 2


@pytest.mark.parametrize(
    "content", [b"not a database " * 100, b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"notes\.txt .*--store"):
        Store(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_left_alone(tmp_path):
    path = tmp_path / "mail.db"
    with opened(path) as raw:
        raw.execute("CREATE TABLE mail (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"mail\.db is another program's SQLite file"):
        Store(path)
    assert path.read_bytes() == before


def test_a_folder_as_a_store_is_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)


def test_a_parent_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StoreError, match=r"results/bench\.db cannot be used"):
        Store(tmp_path / "results" / "bench.db")


def test_reading_a_store_that_is_not_there_is_a_clear_error_and_makes_none(tmp_path):
    with pytest.raises(StoreError, match=r"bench\.db: no result store here; run a suite first"):
        Store(tmp_path / "bench.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def as_nobody(work) -> str:
    """What `work` says in a child without privileges: root may write everywhere."""
    if os.geteuid() != 0:
        return work()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write_end, work().encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as stream:
        return stream.read()


@pytest.fixture
def shared_folder():
    """pytest's own temporary folders are closed to other users."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_folder_can_be_read_and_refuses_writing_clearly(shared_folder, begin, sample):
    path = shared_folder / "bench.db"
    with Store(path) as store:
        info = begin(store)
        store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=None)
    path.chmod(0o444)
    shared_folder.chmod(0o555)

    def work() -> str:
        with Store(path, read_only=True) as store:
            said = f"{len(store.load_run(info.run_id).results[0].rounds)} round; "
        try:
            with Store(path) as store:
                store.finish_run(info.run_id)
        except StoreError as error:
            return said + str(error)
        return said + "was written"

    said = as_nobody(work)
    assert said.startswith(f"1 round; {path} cannot be")
    assert "writable" in said


def test_a_writer_that_holds_the_lock_too_long_is_named_as_such(tmp_path, begin):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        begin(store)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Store(path, busy_seconds=0.05) as store:
        with pytest.raises(StoreError, match="is being written by another process"):
            begin(store)
        assert len(store.runs()) == 1  # reading goes on
        holder.execute("ROLLBACK")
        begin(store)
    holder.close()


def test_concurrent_writers_take_turns(tmp_path, begin):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
    writers = [appender(path, info.run_id, case_id, 0, samples=20) for case_id in info.case_ids]
    counts = [[int(writer.stdout.readline()) for _ in range(40)] for writer in writers]
    for writer in writers:
        writer.kill()
        writer.communicate(timeout=30)
    assert counts == [list(range(40))] * 2
    assert is_intact(path)
    with Store(path) as store:
        for result in store.load_run(info.run_id).results:
            stored = [r.round_index for r in result.rounds]
            assert stored == list(range(len(stored)))
            assert len(stored) >= 40


def test_of_two_that_append_the_same_round_one_is_refused(tmp_path, begin, sample):
    path = tmp_path / "bench.db"
    with Store(path) as store:
        info = begin(store)
    outcomes: list[str] = []
    gate = threading.Barrier(4)

    def work() -> None:
        with Store(path) as store:
            gate.wait(timeout=30)
            for index in range(10):
                try:
                    taken = sample.make_round(2e6, index=index)
                    store.append(info.run_id, info.case_ids[0], taken, artifact=None)
                    outcomes.append("stored")
                except DuplicateRecordError:
                    outcomes.append("refused")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes) == ["refused"] * 30 + ["stored"] * 10


def test_two_may_create_the_same_store_at_once(tmp_path):
    path = tmp_path / "new" / "bench.db"
    errors: list[BaseException] = []
    gate = threading.Barrier(6)

    def work() -> None:
        gate.wait(timeout=30)
        try:
            with Store(path) as store:
                store.runs()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert is_intact(path)


def test_a_reader_sees_the_run_as_of_one_moment(tmp_path, begin, sample):
    with Store(tmp_path / "bench.db") as writer, Store(tmp_path / "bench.db", read_only=True) as reader:
        info = begin(writer)
        with reader._db.reading():
            assert reader._reader.info(info.run_id).run_id == info.run_id
            writer.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=None)
            assert reader._reader._result(info.run_id, info.case_ids[0]).attempts == 0
        assert reader.load_run(info.run_id).results[0].attempts == 1


def test_commits_are_synced(store):
    assert store._db.first("PRAGMA journal_mode")[0] == "wal"
    assert store._db.first("PRAGMA synchronous")[0] == 2
    assert store._db.first("PRAGMA foreign_keys")[0] == 1
