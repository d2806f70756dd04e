"""What planning asks of networks themselves: answered by a process of its own, which loads torch and timm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import UsageError

PROJECT = Path(__file__).resolve().parent.parent


def asked(module: str, question: Any) -> Any:
    """What `python -m MODULE` answers (models.answering). Raises UsageError where it ended without."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise UsageError(f"{module} ended with code {done.returncode}: {last or 'it said nothing'}")
    return json.loads(done.stdout)
