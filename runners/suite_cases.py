"""What a running suite knows of each case: its rounds, what the last one cost, and whether it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from runners.measurement import Job, Round


@dataclass(frozen=True, slots=True)
class Slot:
    """A case's place in the order: `position` goes on from a pass into its repeats, whose `attempt` is 1."""

    case_id: str
    round_index: int
    position: int
    attempt: int = 0


@dataclass
class SuiteCase:
    """`reason` is empty while the case goes on."""

    job: Job
    rounds: list[Round]
    first_round: int = 0
    reason: str = ""
    last_ns: int = 0
    repeat: int | None = None  # the round that is to be taken again

    @property
    def active(self) -> bool:
        return not self.reason

    @property
    def next_round(self) -> int:
        return max([self.first_round, *(taken.round_index + 1 for taken in self.rounds)])

    @property
    def taken(self) -> int:
        """Rounds that count: a repeat adds none."""
        return len({taken.round_index for taken in self.rounds})

    def wants(self, round_index: int, attempt: int) -> bool:
        if attempt:
            return self.active and self.repeat == round_index
        return self.active and self.next_round <= round_index
