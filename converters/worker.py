"""The process that converts: JSON lines in on stdin, JSON lines out on what was its stdout.

`python -m converters.worker ROOT PARENT_PID`. A line in is a request; lines out are `{"step": NAME}`
and `{"notice": TEXT}`, then one of `{"artifact": ...}`, `{"failure": ...}` and `{"cache_error": TEXT}`.
Everything that libraries print goes to stderr, which the parent reads only to explain a crash. Importing
torch takes seconds, so a worker lives for many requests.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from converters.artifact import ConversionError, ConversionRequest
from converters.cache import ArtifactCache, CacheError
from converters.conversion import convert
from converters.quiet import descriptors_are_private
from models.answering import private_stdout

PR_SET_PDEATHSIG = 1


def main(root: str, parent: str) -> None:
    """Serve requests until stdin ends."""
    replies = private_stdout()
    descriptors_are_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    _die_with(int(parent))
    cache = ArtifactCache(Path(root), report=lambda text: _reply(replies, {"notice": text}))
    for line in _lines():
        _serve(ConversionRequest.from_dict(json.loads(line)), cache, replies)


def _serve(request: ConversionRequest, cache: ArtifactCache, replies: TextIO) -> None:
    try:
        artifact = convert(request, cache, on_step=lambda name: _reply(replies, {"step": name}))
    except ConversionError as error:
        _reply(replies, {"failure": error.failure.to_dict()})
    except CacheError as error:
        _reply(replies, {"cache_error": str(error)})
    else:
        _reply(replies, {"artifact": artifact.to_dict()})


def _reply(replies: TextIO, value: dict[str, Any]) -> None:
    replies.write(json.dumps(value) + "\n")
    replies.flush()


def _die_with(parent: int) -> None:
    """On Linux the kernel kills this process with its parent; elsewhere `_lines` sees the pipe end."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _lines() -> Iterator[str]:
    """Lines of stdin, read in a thread so that a parent's end is noticed in the middle of a conversion."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    main(*sys.argv[1:])
