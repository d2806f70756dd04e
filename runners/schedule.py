"""In which order the cases of a suite take their rounds, so that the machine's drift hits them alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

ROUNDS_OF_A_SHUFFLE = 4


@dataclass(frozen=True)
class Order:
    """The order of every round: a shuffle twice, then its mirror twice (AB AB BA BA): linear drift cancels.

    A mirror right behind its shuffle (AB BA) would cancel drift as well, and put the same case at the end of
    one round and the start of the next: where a machine's speed wanders, that makes the differences of
    neighbouring rounds alike, and intervals of two cases too narrow. docs/decisions/0004-order.md.

    Cases of one group of `groups` are neighbours: a machine's speed wanders within a minute, so two cases are
    compared best when little time lies between them. The shuffle sorts by a hash of seed, turn and name, so
    it is the same everywhere, and a case that comes or goes does not change the order of the others.
    """

    case_ids: tuple[str, ...]
    seed: int
    groups: Mapping[str, str] = field(default_factory=dict)

    def of(self, round_index: int) -> tuple[str, ...]:
        turn, place = divmod(round_index, ROUNDS_OF_A_SHUFFLE)
        if turn not in self._shuffles:
            self._shuffles.clear()
            self._shuffles[turn] = tuple(sorted(self.case_ids, key=lambda case_id: self._rank(turn, case_id)))
        shuffled = self._shuffles[turn]
        return shuffled if place < ROUNDS_OF_A_SHUFFLE // 2 else shuffled[::-1]

    @cached_property
    def _shuffles(self) -> dict[int, tuple[str, ...]]:
        return {}

    def _rank(self, turn: int, case_id: str) -> tuple[bytes, bytes]:
        return self._hash(turn, self.groups.get(case_id, "")), self._hash(turn, case_id)

    def _hash(self, turn: int, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}:{turn}:{name}".encode()).digest()
