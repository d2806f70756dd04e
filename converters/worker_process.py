"""A worker's process as the pool sees it: how it is started, what it is told, and how it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from converters.artifact import ConversionRequest

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(eq=False, slots=True)
class WorkerProcess:
    """`buffer` holds the start of a line that is not complete; `step` is the last one of its request."""

    process: subprocess.Popen[bytes]
    printed: IO[bytes]
    buffer: bytearray = field(default_factory=bytearray)
    request: ConversionRequest | None = None
    deadline: float = 0.0
    step: str = ""

    @staticmethod
    def start(root: Path, workers: int) -> WorkerProcess:
        """One of so many `workers`, for the artifact cache at `root`; its stdout never blocks."""
        printed = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        process = subprocess.Popen(
            [sys.executable, "-m", "converters.worker", str(root), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env=_environment(workers),
        )
        worker = WorkerProcess(process, printed)
        os.set_blocking(worker.stdout.fileno(), False)
        return worker

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, request: ConversionRequest) -> None:
        """A process that died takes nothing: reading its stdout says so."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(_portable(request)).encode() + b"\n")
            self.process.stdin.flush()

    def printed_tail(self) -> str:
        """The last lines that the worker's libraries wrote."""
        self.printed.seek(0, os.SEEK_END)
        self.printed.seek(max(0, self.printed.tell() - 2000))
        return self.printed.read().decode(errors="replace").strip()

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.stdout.close()
        self.printed.close()


def _environment(workers: int) -> dict[str, str]:
    """One thread each where several workers share the cores: torch takes its default from OpenMP's."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if workers > 1 else {}
    return {**os.environ, "PYTHONPATH": path, **threads}


def _portable(request: ConversionRequest) -> dict[str, Any]:
    value = request.to_dict()
    return {**value, "checkpoint": str(request.checkpoint.absolute()) if request.checkpoint else None}
