"""A machine with something else to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process that never rests for every core, for as long as this one lives at most."""
    code = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()
