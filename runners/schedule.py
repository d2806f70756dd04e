"""In which order the cases of a suite take their rounds, so that the machine's drift hits them alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Order:
    """The order of every round: 2k and 2k+1 are a shuffle and its mirror (ABBA), so linear drift cancels.

    Cases of one group of `groups` are neighbours: a machine's speed wanders within a minute, so two cases are
    compared best when little time lies between them. The shuffle sorts by a hash of seed, k and name, so
    it is the same everywhere, and a case that comes or goes does not change the order of the others.
    """

    case_ids: tuple[str, ...]
    seed: int
    groups: Mapping[str, str] = field(default_factory=dict)

    def of(self, round_index: int) -> tuple[str, ...]:
        pair, mirrored = divmod(round_index, 2)
        if pair not in self._shuffles:
            self._shuffles.clear()
            self._shuffles[pair] = tuple(sorted(self.case_ids, key=lambda case_id: self._rank(pair, case_id)))
        shuffled = self._shuffles[pair]
        return shuffled[::-1] if mirrored else shuffled

    @cached_property
    def _shuffles(self) -> dict[int, tuple[str, ...]]:
        return {}

    def _rank(self, pair: int, case_id: str) -> tuple[bytes, bytes]:
        return self._hash(pair, self.groups.get(case_id, "")), self._hash(pair, case_id)

    def _hash(self, pair: int, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}:{pair}:{name}".encode()).digest()
