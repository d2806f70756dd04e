"""In which order the cases of a suite take their rounds, so that the machine's drift hits them alike."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator


def order(case_ids: Iterable[str], *, seed: int, round_index: int) -> tuple[str, ...]:
    """The order of one round: rounds 2k and 2k+1 are a shuffle and its mirror (ABBA): linear drift cancels.

    The shuffle sorts by a hash of seed, k and case, so it is the same everywhere, and a case that comes or
    goes does not change the order of the others.
    """
    pair, mirrored = divmod(round_index, 2)
    shuffled = sorted(case_ids, key=lambda case_id: _rank(seed, pair, case_id), reverse=bool(mirrored))
    return tuple(shuffled)


def orders(case_ids: Iterable[str], seed: int) -> Iterator[tuple[str, ...]]:
    """The orders of rounds 0, 1, 2, ... without end."""
    known = tuple(case_ids)
    return (order(known, seed=seed, round_index=round_index) for round_index in itertools.count())


def _rank(seed: int, pair: int, case_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{pair}:{case_id}".encode()).digest()
