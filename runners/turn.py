"""When a measuring process may work: alone, as one of a pair, or in turns with others; asleep otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FIRST_IN_TURNS, IN_TURNS = "first in turns", "in turns"
BESIDE_ANOTHER = ("second", IN_TURNS)  # got ready in the time of the process that leads


@dataclass(frozen=True, slots=True)
class Turn:
    """`place` is `alone`, `first` or `second` of a pair, `first in turns` or `in turns`.

    `go` returns when the parent says go. `company` tells those that took turns with each other from others.
    """

    place: str
    go: Callable[[], None]
    company: int = 0

    @property
    def waits(self) -> bool:
        return self.place != "alone"

    @property
    def takes_turns(self) -> bool:
        return self.place in (FIRST_IN_TURNS, IN_TURNS)

    @property
    def was_beside(self) -> bool:
        """Did it get ready beside a process that this time is counted for?"""
        return self.place in BESIDE_ANOTHER


ALONE = Turn("alone", lambda: None)
