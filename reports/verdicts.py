"""Which of two is faster, or are they equal: verdicts from the rounds, alone and as one family.

A comparison is made on logarithms of round medians, the time of `a` over that of `b`. With the margin
m = log(1 + delta):

- FASTER or SLOWER: the 95 % interval of the log ratio lies wholly below -m or above m. At delta = 0 it only
  has to exclude 1; at delta > 0 the difference is larger than delta beyond chance, so two equal cases get a
  false verdict far less often than 1 time in 20.
- EQUIVALENT: the 90 % interval lies inside (-m, m): two one-sided tests at 5 % each (Schuirmann 1987,
  doi:10.1007/BF01068419). Never at delta = 0.
- INCONCLUSIVE: neither.

`adjust` judges several comparisons as one family. SciPy is imported on first use, only `scipy.special`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np

from reports.rounds import Floats, paired_logs, round_logs
from runners.measurement import Measurement

CONFIDENCE = 0.95
DELTA = 0.01
MAX_ROUNDS_NEEDED = 1000
ALPHA = 1.0 - CONFIDENCE
POWER = 0.8  # chance with which `rounds_needed` settles, if the estimates are the truth

Key = TypeVar("Key", bound=Hashable)


class ProtocolMismatchError(ValueError):
    """Two measurements taken under different protocols were to be compared."""


class Verdict(StrEnum):
    """What a comparison says of `a` against `b`."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians with its 95 % interval, None where there are too few rounds for one.

    `pairs` counts the pairs of rounds; in an unpaired comparison, the rounds of the side that has fewer.
    """

    value: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def resolved(self) -> bool:
        """FASTER or SLOWER at the default delta, taken alone."""
        if self.low is None or self.high is None:
            return False
        return self.low > 1.0 + DELTA or self.high < 1.0 / (1.0 + DELTA)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`a` against `b`: the ratio of their times, and what it amounts to at `delta`.

    `p_value` is that of "the difference is no larger than delta", two-sided; None without an interval.
    `rounds_needed` estimates how many rounds of each (pairs, or rounds on either side) would settle an
    INCONCLUSIVE comparison with a chance of 80 %, at most MAX_ROUNDS_NEEDED, which then reads "or more"; None
    where it is settled or there is no interval to estimate from. `standard_error` is that of the log ratio,
    with `degrees` of freedom.
    """

    ratio: Ratio
    delta: float
    verdict: Verdict
    p_value: float | None
    paired: bool
    rounds_needed: int | None
    standard_error: float | None = None
    degrees: float | None = None

    @property
    def differs(self) -> bool:
        """FASTER or SLOWER."""
        return self.verdict in (Verdict.FASTER, Verdict.SLOWER)


def compare(
    a: Measurement, b: Measurement, *, delta: float = DELTA, paired: bool, force: bool = False
) -> Comparison | None:
    """The time of `a` over that of `b`. None where they are paired and have no round in common.

    `paired` compares rounds of one run by their index, which removes what the machine did to both; otherwise
    they are two runs of different times, and Welch's t test takes their rounds as independent. What changed
    between the runs for all rounds alike (the machine's state, its temperature) is then part of the ratio.
    Raises ProtocolMismatchError for different protocols unless `force`, ValueError for a negative delta.
    """
    if delta < 0:
        raise ValueError(f"delta is {delta:g}: a difference that counts as none is 0 or more")
    if a.protocol.id != b.protocol.id and not force:
        raise protocol_mismatch(a, b)
    if paired:
        logs = paired_logs(a, b)
        return judge_pairs(np.array(logs), delta=delta) if logs else None
    left, right = round_logs(a), round_logs(b)
    return _welch(np.array(list(left.values())), np.array(list(right.values())), delta=delta)


def paired_ratio(a: Measurement, b: Measurement, *, force: bool = False) -> Ratio | None:
    """Time of `a` over that of `b`, paired by round index; None without a common round.

    Raises ProtocolMismatchError for measurements of different protocols unless `force`.
    """
    found = compare(a, b, paired=True, force=force)
    return found.ratio if found else None


def ratio_over_batches(a: Measurement, b: Measurement, *, force: bool = False) -> Ratio | None:
    """As `paired_ratio`, and unpaired where the two were measured in different batches."""
    found = compare(a, b, paired=True, force=force) or compare(a, b, paired=False, force=force)
    return found.ratio if found else None


def judge_pairs(differences: Floats, *, delta: float = DELTA) -> Comparison:
    """A paired comparison from the differences of the logarithms, one per pair and at least one."""
    count = differences.size
    if count < 2:
        return _judge(float(differences.mean()), None, None, delta=delta, rounds=count, paired=True)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return _judge(float(differences.mean()), error, count - 1.0, delta=delta, rounds=count, paired=True)


def adjust(comparisons: Mapping[Key, Comparison], *, alpha: float = ALPHA) -> dict[Key, Comparison]:
    """The comparisons as one family: the chance of any false FASTER or SLOWER is at most `alpha` (Holm 1979).

    p values become Holm's, and a verdict that they do not carry becomes INCONCLUSIVE. Ratios keep their own
    95 % intervals, each for itself, so an interval may exclude 1 where the family has no verdict. EQUIVALENT
    stays: that nothing was found among many is no reason to doubt that two are equal. Comparisons without a
    p value take no part.
    """
    tested = {key: found.p_value for key, found in comparisons.items() if found.p_value is not None}
    adjusted = dict(zip(tested, holm(np.array(list(tested.values()))).tolist(), strict=True))
    return {
        key: _readjusted(found, adjusted[key], alpha) if key in adjusted else found
        for key, found in comparisons.items()
    }


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjustment: reject where the result is at most the family's error rate."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(p_values.size, 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def p_beyond(log_ratio: Floats, error: Floats, degrees: Floats, *, margin: float | Floats) -> Floats:
    """Two-sided p values of "no further than `margin` from 0", elementwise."""
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        t = (np.abs(log_ratio) - margin) / error
    t = np.where(np.isnan(t), 0.0, t)  # 0 / 0: exactly at the margin and without any spread
    return np.asarray(np.minimum(1.0, 2.0 * stdtr(degrees, -t)))


def protocol_differences(a: Measurement, b: Measurement) -> list[str]:
    """`threads (1 and 2)` for every field in which two protocols differ."""
    left, right = a.protocol.to_dict(), b.protocol.to_dict()
    return [f"{name} ({left[name]} and {right[name]})" for name in left if left[name] != right[name]]


def protocol_mismatch(a: Measurement, b: Measurement) -> ProtocolMismatchError:
    differing = ", ".join(protocol_differences(a, b))
    return ProtocolMismatchError(f"different protocols are not compared: {differing}")


def _welch(left: Floats, right: Floats, *, delta: float) -> Comparison:
    """Independent rounds; the degrees of freedom are Welch and Satterthwaite's."""
    difference, rounds = float(left.mean() - right.mean()), min(left.size, right.size)
    if rounds < 2:
        return _judge(difference, None, None, delta=delta, rounds=rounds, paired=False)
    parts = [float(side.var(ddof=1)) / side.size for side in (left, right)]
    spread = sum(part**2 / (side.size - 1) for part, side in zip(parts, (left, right), strict=True))
    degrees = sum(parts) ** 2 / spread if spread else left.size + right.size - 2.0
    return _judge(difference, math.sqrt(sum(parts)), degrees, delta=delta, rounds=rounds, paired=False)


def _judge(
    log_ratio: float, error: float | None, degrees: float | None, *, delta: float, rounds: int, paired: bool
) -> Comparison:
    if error is None or degrees is None:
        bare = Ratio(math.exp(log_ratio), None, None, rounds)
        return Comparison(bare, delta, Verdict.INCONCLUSIVE, None, paired, None)
    from scipy.special import stdtrit

    half = float(stdtrit(degrees, 1 - ALPHA / 2)) * error
    ratio = Ratio(math.exp(log_ratio), math.exp(log_ratio - half), math.exp(log_ratio + half), rounds)
    p = float(p_beyond(np.array(log_ratio), np.array(error), np.array(degrees), margin=math.log1p(delta)))
    verdict = _verdict(log_ratio, error, degrees, delta=delta, p=p)
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = _rounds_needed(log_ratio, error * math.sqrt(rounds), delta=delta, alpha=ALPHA, more=rounds)
    return Comparison(ratio, delta, verdict, p, paired, needed, error, degrees)


def _verdict(log_ratio: float, error: float, degrees: float, *, delta: float, p: float) -> Verdict:
    from scipy.special import stdtr

    if p <= ALPHA:
        return Verdict.SLOWER if log_ratio > 0 else Verdict.FASTER
    room = math.log1p(delta) - abs(log_ratio)
    if room > 0 and (error == 0 or float(stdtr(degrees, -room / error)) <= ALPHA):
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def _readjusted(found: Comparison, p: float, alpha: float) -> Comparison:
    """With the family's p value; the rounds that are needed are those at the level it leaves this one."""
    if not found.differs or p <= alpha or found.standard_error is None or not found.p_value:
        return replace(found, p_value=p)
    rounds = found.ratio.pairs
    needed = _rounds_needed(
        math.log(found.ratio.value),
        found.standard_error * math.sqrt(rounds),
        delta=found.delta,
        alpha=alpha * found.p_value / p,
        more=rounds,
    )
    return replace(found, p_value=p, verdict=Verdict.INCONCLUSIVE, rounds_needed=needed)


def _rounds_needed(log_ratio: float, spread: float, *, delta: float, alpha: float, more: int) -> int:
    """Rounds at which the difference shows, or the equality, whichever the estimate is on the way to.

    `spread` is the standard error times the root of the rounds. Above `more`, which did not settle it.
    """
    room, beyond = abs(abs(log_ratio) - math.log1p(delta)), abs(log_ratio) > math.log1p(delta)
    if beyond:
        return rounds_until(room, spread, tail=alpha / 2, more=more)
    both = (1 + POWER) / 2  # equality has two sides to show
    return rounds_until(room, spread, tail=alpha, more=more, power=both)


def rounds_until(distance: float, spread: float, *, tail: float, more: int, power: float = POWER) -> int:
    """The first count above `more` at which a test at level `tail` sees `distance` with that power.

    Both are in logarithms; `spread` is the standard error times the root of the rounds. At most
    MAX_ROUNDS_NEEDED.
    """
    from scipy.special import ndtri, stdtrit

    counts = np.arange(more + 1, MAX_ROUNDS_NEEDED)
    wanted = (stdtrit(counts - 1, 1 - tail) + ndtri(power)) * spread / np.sqrt(counts)
    enough = np.flatnonzero(wanted <= distance)
    return int(counts[enough[0]]) if enough.size else MAX_ROUNDS_NEEDED
