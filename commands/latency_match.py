"""The setting of a family that takes as long as a reference: few rounds to search, intervals to decide.

A family has a knob, its depth or its width, and takes longer with every step of it. What is measured is
the time of a setting over that of the reference, in pairs of rounds, and every pair has noise. The setting
that is expected nearest to the reference gets the next rounds, few at first and twice as many each time its
interval does not decide; what lies beyond a decided setting is never measured.

A verdict is that of `reports.verdicts` with the tolerance as its delta: EQUIVALENT is within it, at 5 %
each side. A setting is looked at up to four times (4, 8, 16, 32 rounds), so one that lies just outside is
taken for a match in more than 5 of 100 searches; one that is twice as far outside hardly ever is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports.rounds import Floats
from reports.verdicts import Comparison, Verdict, judge_pairs

TOLERANCE = 0.03
FEW_ROUNDS = 4
MAX_ROUNDS = 32
LEAST_SLOPE, MOST_SLOPE = 0.25, 4.0  # of log time over log setting, where it is guessed beyond what is known
HALVING = 4  # so many settings without a match: the next one is the middle, whatever is expected

# (setting, rounds in all) -> logarithm of the setting's time over the reference's, one per pair of rounds.
Measure = Callable[[int, int], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting that was measured, and what all its rounds say of it against the reference."""

    setting: int
    comparison: Comparison

    @property
    def distance(self) -> float:
        """How far its time is from the reference's, as the size of the logarithm of the ratio."""
        return abs(math.log(self.comparison.ratio.value))


@dataclass(frozen=True, slots=True)
class LatencyMatch:
    """`nearest` is the match where there is one, else the setting whose ratio is nearest to 1.

    `tried` are all that were measured, by setting; `lowest` and `highest` are the ends of what could be.
    """

    nearest: Tried
    tried: tuple[Tried, ...]
    lowest: int
    highest: int

    @property
    def matched(self) -> bool:
        """Its time is the reference's within the tolerance."""
        return self.nearest.comparison.verdict is Verdict.EQUIVALENT

    @property
    def decided(self) -> bool:
        """It is a match, or no setting is one; otherwise the rounds ended before that was known."""
        return self.nearest.comparison.verdict is not Verdict.INCONCLUSIVE

    @property
    def pairs(self) -> int:
        """Pairs of rounds in all."""
        return sum(tried.comparison.ratio.pairs for tried in self.tried)

    def finding(self, knob: str) -> str:
        """One sentence: `depth 5 takes 1.012 of the reference's time, 95 % CI [1.001, 1.023]: within 3 %`."""
        comparison, ratio = self.nearest.comparison, self.nearest.comparison.ratio
        share = f"{100 * comparison.delta:g} %"
        if self.matched:
            judged = f"within {share}"
        elif self.decided:
            judged = f"the nearest, and no {knob} from {self.lowest} to {self.highest} is within {share}"
        else:
            judged = f"the nearest; {comparison.ratio.pairs} rounds do not tell if it is within {share}"
        subject = f"{knob} {self.nearest.setting} takes {ratio.value:.3f} of the reference's time"
        interval = "no interval" if ratio.low is None else f"95 % CI [{ratio.low:.3f}, {ratio.high:.3f}]"
        return f"{subject}, {interval}: {judged}"


def match(
    settings: Sequence[int],
    measure: Measure,
    *,
    start: int | None = None,
    tolerance: float = TOLERANCE,
    few_rounds: int = FEW_ROUNDS,
    max_rounds: int = MAX_ROUNDS,
) -> LatencyMatch:
    """The first of `settings` that is found within the tolerance, else the nearest one.

    `settings` are positive and rise; `start` is the first to be measured, the middle one unless given. Each
    gets at least `few_rounds` and at most `max_rounds`. Raises ValueError for what cannot be searched, and
    whatever `measure` raises.
    """
    if not settings or settings[0] < 1 or list(settings) != sorted(set(settings)):
        raise ValueError(f"settings {list(settings)}: must be positive and rise")
    if not 2 <= few_rounds <= max_rounds:
        raise ValueError(f"few_rounds={few_rounds}, max_rounds={max_rounds}: at least 2, and not above it")
    search = _Search(list(settings), max_rounds)
    setting: int | None = settings[len(settings) // 2] if start is None else start
    if setting not in search.settings:
        raise ValueError(f"start={start}: is none of the settings")
    while setting is not None:
        rounds = min(max_rounds, 2 * search.asked[setting]) if setting in search.asked else few_rounds
        differences = np.array(measure(setting, rounds), dtype=float)
        search.asked[setting] = rounds
        search.tried[setting] = Tried(setting, judge_pairs(differences, delta=tolerance))
        setting = search.next_setting()
    return search.result()


@dataclass
class _Search:
    settings: list[int]
    max_rounds: int
    tried: dict[int, Tried] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)  # rounds in all, by setting

    def next_setting(self) -> int | None:
        """The one that is expected nearest to the reference; None where there is a match or nothing left.

        Where times rise in leaps expectation may be wrong time and again, so now and then it is the middle.
        """
        left = self._open()
        if self._matches() or not left:
            return None
        expected = np.abs(self._expected_logs(left))
        best, middle = left[int(np.argmin(expected))], left[len(left) // 2]
        if best not in self.tried and len(self.tried) % HALVING == 0:
            return middle
        return best

    def result(self) -> LatencyMatch:
        """A setting that is left undecided may be a match, so it stands before one that is none."""
        tried = tuple(self.tried[setting] for setting in sorted(self.tried))
        nearest = min(tried, key=lambda each: (each.comparison.differs, each.distance))
        chosen = (self._matches() or [nearest])[0]
        return LatencyMatch(chosen, tried, self.settings[0], self.settings[-1])

    def _matches(self) -> list[Tried]:
        return [each for each in self.tried.values() if each.comparison.verdict is Verdict.EQUIVALENT]

    def _open(self) -> list[int]:
        """The settings that may still match: between those below and those above that are done with."""
        done = [self.tried[setting] for setting in self.tried if self._is_done(setting)]
        below = max((each.setting for each in done if each.comparison.ratio.value <= 1.0), default=0)
        above = min((each.setting for each in done if each.comparison.ratio.value > 1.0), default=math.inf)
        return [setting for setting in self.settings if below < setting < above]

    def _is_done(self, setting: int) -> bool:
        return self.tried[setting].comparison.differs or self.asked[setting] >= self.max_rounds

    def _expected_logs(self, settings: Sequence[int]) -> Floats:
        """Log ratios: between two that were tried on the line between them, in logarithms of the settings.

        Beyond the outermost by the slope from one to the other; proportional to a single one.
        """
        known = np.log(sorted(self.tried))
        logs = np.log([self.tried[setting].comparison.ratio.value for setting in sorted(self.tried)])
        slope = 1.0
        if known.size > 1:
            slope = float(np.clip(np.ptp(logs) / np.ptp(known), LEAST_SLOPE, MOST_SLOPE))
        wanted = np.log(settings)
        beyond = np.minimum(wanted - known[0], 0.0) + np.maximum(wanted - known[-1], 0.0)
        return np.asarray(np.interp(wanted, known, logs) + slope * beyond)
