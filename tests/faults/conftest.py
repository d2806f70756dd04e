"""Whole suites as processes of their own, in a folder of their own, and what they leave behind."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLUGIN = "deploybench_faulty-1.dist-info"

TIMING = """
schema = 1

[timing]
min_rounds = {rounds}
max_rounds = {rounds}
round_seconds = 0.02
warmup_seconds = 0.0
max_warmup_seconds = 0.5
target = 0.5
max_seconds = 600
deadline_seconds = {deadline}
"""


@dataclass(frozen=True)
class Suites:
    """A folder with a bench.toml, and the command line run on it as a process."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "bench.toml"

    @property
    def store(self) -> Path:
        return self.folder / "results/bench.db"

    @property
    def locks(self) -> Path:
        return self.folder / "locks"

    def configure(self, suites: str, *, rounds: int = 2, deadline: float = 60) -> None:
        self.config.write_text(TIMING.format(rounds=rounds, deadline=deadline) + suites)

    def start(self, *argv: str, program: Path = ROOT / "bench.py", **popen: Any) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), *argv, "--config", str(self.config)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
            cwd=self.folder,
            **popen,
        )

    def bench(self, *argv: str, **popen: Any) -> Answer:
        process = self.start(*argv, **popen)
        out, err = process.communicate(timeout=300)
        answer = Answer(process.returncode, out, err)
        assert "Traceback" not in err, err
        return answer

    def records(self, store: Path | None = None) -> list[tuple[int, str, str, int, int]]:
        """(run, case id, kind, round, attempt) in the order of storing; the file must be sound."""
        with closing(sqlite3.connect(store or self.store)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
            rows = db.execute(
                "SELECT run_id, case_id, kind, round_index, attempt FROM records ORDER BY record_id"
            ).fetchall()
        assert max(Counter(rows).values(), default=1) == 1
        return rows

    def processes(self) -> list[int]:
        """Whatever runs with this folder's locks in its environment: each process that a suite started."""
        wanted = f"DEPLOYBENCH_LOCKS={self.locks}".encode()
        return [pid for pid in _pids() if wanted in _environment(pid) and _state(pid) not in "ZX"]

    def held_locks(self) -> list[str]:
        """Files of this folder that a process still holds a lock on."""
        paths = [*self.locks.glob("*.lock"), *self.folder.rglob("*.db.run-*.lock")]
        return [path.name for path in paths if not _is_free(path)]

    def assert_nothing_left(self) -> None:
        """No process and no lock: the kernel may take a moment to end the last one."""
        wait_for(lambda: not self.processes() and not self.held_locks())


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Polls, since nothing announces it; a slow machine only waits longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended, or is another user's
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def load(path: Path) -> ModuleType:
    """A helper module: test folders are no packages."""
    spec = importlib.util.spec_from_file_location(f"faults_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suites]:
    """With the backends of faulty_runner.py installed, as another package's."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("the processes of a suite are looked for in /proc, which Linux has")
    plugin = tmp_path / "plugin" / PLUGIN
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: deploybench-faulty\nVersion: 1\n")
    points = load(HERE / "faulty_runner.py").ENTRY_POINTS
    (plugin / "entry_points.txt").write_text("\n".join(["[deploybench.runners]", *points, ""]))
    for path in (HERE, plugin.parent):
        monkeypatch.syspath_prepend(path)
    made = Suites(
        tmp_path,
        {
            "PYTHONPATH": os.pathsep.join((str(plugin.parent), str(HERE))),
            "DEPLOYBENCH_LOCKS": str(tmp_path / "locks"),
            "COLUMNS": "200",
        },
    )
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def put_artifacts(suites: Suites) -> Callable[..., None]:
    """`put_artifacts(suite, backend)`: files for all its cases, in the cache as if converted."""
    carried = load(HERE.parent / "commands/carried.py")

    def put(suite: str, *backends: str) -> None:
        for backend in backends:
            content = carried.relu_graph if backend == "onnxruntime" else carried.no_graph
            carried.put(_InFolder(suites.folder), suite, backend, content)

    return put


@dataclass(frozen=True)
class _InFolder:
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "bench.toml"


@dataclass
class Disk:
    """A small file system of its own."""

    folder: Path

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all its space but so much."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            size = 1 << 16
            while size >= 4096:
                try:
                    ballast.write(bytes(size))
                except OSError:
                    size //= 2
        if leave_bytes:
            kept = (self.folder / "ballast").stat().st_size - leave_bytes
            os.truncate(self.folder / "ballast", max(0, kept))

    def free(self) -> None:
        (self.folder / "ballast").unlink()

    def read_only(self) -> None:
        _mount("-o", "remount,ro", str(self.folder))

    def writable(self) -> None:
        _mount("-o", "remount,rw", str(self.folder))


def _mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """16 MiB of memory as a disk."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root and mount(8)")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)
