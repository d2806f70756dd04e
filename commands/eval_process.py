"""An evaluated file in a process of its own, seen from the one that counts: images in, outputs out."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
PROJECT = Path(__file__).resolve().parent.parent
MAX_LINE = 1 << 16
SHOWN = 600  # characters of what a process that died had printed last


class EvaluationError(Exception):
    """Why a file gives no outputs; `kind` is `bad_input`, `unavailable` or `failed`."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Predictor:
    """Loads a file and runs it, batch by batch; `tool` says what runs it. Used as a context manager.

    `job` is what eval_worker.load takes, `name` what messages call it. A process that is silent for
    `deadline_seconds` is ended. Every method raises EvaluationError.
    """

    def __init__(self, job: Mapping[str, Any], name: str, *, deadline_seconds: float) -> None:
        self._name, self.deadline_seconds = name, deadline_seconds
        self._buffer = bytearray()
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed on leaving
        self._process = subprocess.Popen(
            [sys.executable, "-m", "commands.eval_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env={**os.environ, "PYTHONPATH": _python_path()},
        )
        self._write(json.dumps(job).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._printed):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tool(self) -> str:
        """Waits until the file is loaded; what it was loaded with."""
        return str(self._header()["ready"])

    def send(self, images: Images) -> None:
        """Hands images (B, C, H, W) over, to be run; `receive` gives what comes of them."""
        wide = np.ascontiguousarray(images, "<f4")
        self._write(json.dumps({"shape": list(wide.shape)}).encode() + b"\n" + wide.tobytes())

    def receive(self) -> Images:
        """Outputs (B, classes) of the images sent before."""
        shape = self._header()["shape"]
        wanted = 4 * int(np.prod(shape))
        while len(self._buffer) < wanted:
            self._read_more()
        data = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        return np.frombuffer(data, "<f4").reshape(shape)

    def _header(self) -> dict[str, Any]:
        while b"\n" not in self._buffer[:MAX_LINE]:
            self._read_more()
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        value: dict[str, Any] = json.loads(line)
        if "error" in value:
            raise EvaluationError(f"{self._name}: {value['error']}", value["kind"])
        return value

    def _read_more(self) -> None:
        """Waits for bytes, for the process's end or for the deadline."""
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(self.deadline_seconds):
                raise EvaluationError(
                    f"{self._name}: no answer within {self.deadline_seconds:g} s; it was ended", "failed"
                )
        data = os.read(stdout.fileno(), 1 << 20)
        if not data:
            raise self._died()
        self._buffer += data

    def _write(self, data: bytes) -> None:
        """A process that died takes nothing: reading its answer says why."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _died(self) -> EvaluationError:
        code = self._process.wait()
        how = (
            f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended, code {code}"
        )
        self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - SHOWN))
        said = self._printed.read().decode(errors="replace").strip().rpartition("\n")[2]
        last = f"; its last line: {said}" if said else ""
        return EvaluationError(f"{self._name}: the process that ran it {how}{last}", "failed")


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
