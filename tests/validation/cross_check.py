"""The medians of our loop against those of a bare one around the same file, in turns."""

from __future__ import annotations

import time

from commands import trials
from commands.trials import Subject
from runners.cross_check import against_bare_loop
from tests.validation.document import Section

BAR, PRECISION = 0.01, 0.0025
PAIRS, MAX_PAIRS = 12, 120


def section(subject: Subject, *, command: str) -> Section:
    """Pairs of processes until the standard error is a quarter of the bar; without that the bar is missed."""
    begun = time.monotonic()
    found = against_bare_loop(subject.job, pairs=PAIRS, precision=PRECISION, max_pairs=MAX_PAIRS)
    met = found.standard_error <= PRECISION and abs(found.ratio - 1) < BAR
    row = (
        *(trials.BLOCK.name, len(found.pairs), found.ratio, 100 * found.standard_error),
        *(f"within {BAR:.0%}, known to {PRECISION:.2%}", met),
    )
    return Section(
        "real_cross_check",
        "The same file in a bare loop",
        "A process that measures with our loop and one that loops around `InferenceSession.run` with nothing"
        " of ours are alive at once and take turns. The ratio is ours over the bare one's, over all pairs of"
        " processes; both rotate the same inputs.",
        ("network", "pairs of processes", "ours over bare", "standard error, %", "bar", "met"),
        (row,),
        command,
        time.monotonic() - begun,
    )
