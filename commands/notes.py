"""What a verb says while it works: stdout is for its result alone."""

from __future__ import annotations

import sys


def note(text: str) -> None:
    """One line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)
