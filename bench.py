#!/usr/bin/env python3
"""The command line: parse, validate everything, plan, run, report.

`python bench.py --suite NAME` runs a suite; `python bench.py VERB` does one of `commands.VERBS`. Nothing
heavy is imported here, so `--help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from commands import CRASHED, dispatch


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: everything asked for was measured; 1: some case failed; 2: bad input, nothing was run; 3:
    built but not timed, because the device is not here; 4: a gate that is undecided; 130: interrupted."""
    return dispatch(sys.argv[1:] if argv is None else argv)


def guarded() -> int:
    """An error of ours must not read as a failed case or a regression, as Python's own 1 would."""
    try:
        return main()
    except Exception:
        traceback.print_exc()
        return CRASHED


if __name__ == "__main__":
    sys.exit(guarded())
