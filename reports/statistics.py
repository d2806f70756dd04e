"""Statistics of raw samples: always recomputed, never stored.

The unit of inference is the round (a fresh process), so every interval of a median is taken across rounds.
The headline `median_ns` is the geometric mean of the round medians, which is the estimate that the interval
(Student's t on the logarithms of the round medians) is centred on, and whose ratios are the paired ratios:
numbers and comparisons in a report agree. SciPy is imported on first use, for the quantiles of samples, and
only `scipy.special`.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.drift import Drift, estimate_drift
from reports.student import two_sided_quantile
from runners.measurement import Measurement, Round

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
MIN_SAMPLES_P90 = 64  # the sample counts that MLPerf's early stopping asks for, see docs/measurement.md
MIN_SAMPLES_P99 = 662
MIN_ROUNDS = 5
TIE = 0.01
OTHER_TOOL = "other_tool"  # the flag of a round whose loop is not ours
_DISTURBANCES = frozenset({"disturbed", "throttled"})
_COPIES = ("h2d", "d2h")


class ProtocolMismatchError(ValueError):
    """Two measurements taken under different protocols were to be compared."""


@dataclass(frozen=True, slots=True)
class Quantile:
    """An order statistic of the pooled samples and its 95 % interval, also order statistics (ns)."""

    level: float
    value_ns: float
    low_ns: float
    high_ns: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What the samples of one measurement say; times are nanoseconds per inference of the whole batch.

    `half_width` is relative to the median, the wider side of the interval, and infinite with one round.
    `iqr_ratio` is the pooled interquartile range over the pooled median. Outliers are counted with Tukey's
    fences (1.5 and 3 interquartile ranges) of their own round and stay in. `within_spread` is the typical
    relative standard deviation inside a round (from the IQR), `between_spread` that of the round medians.
    `repeated_rounds` were disturbed, taken again, and are not in the numbers. `throughput_per_s` is None for
    samples of another tool: they may overlap.
    """

    median_ns: float
    low_ns: float | None
    high_ns: float | None
    half_width: float
    target: float
    p90: Quantile | None
    p99: Quantile | None
    mean_ns: float
    min_ns: float
    max_ns: float
    mad_ns: float
    iqr_ratio: float
    mild_outliers: int
    severe_outliers: int
    within_spread: float
    between_spread: float | None
    drift: Drift
    round_medians_ns: tuple[float, ...]
    samples: int
    rounds: int
    repeated_rounds: int
    unsteady_rounds: int
    loop_counts: tuple[int, ...]
    throughput_per_s: float | None

    @property
    def converged(self) -> bool:
        return self.half_width <= self.target


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of medians over paired rounds; without two pairs there is no interval."""

    value: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def resolved(self) -> bool:
        """The interval excludes 1, and the difference is larger than the 1 % that counts as a tie."""
        if self.low is None or self.high is None:
            return False
        return not self.low <= 1.0 <= self.high and abs(math.log(self.value)) > math.log1p(TIE)


@dataclass(frozen=True, slots=True)
class Rank:
    """The places that a case may have, 1 the fastest: `first` to `last`, as far as the noise allows to say.

    `first` is 1 plus the number of cases that are faster beyond the noise, `last` leaves room for all that
    are slower beyond it. Cases inside the noise of each other always have a place in common.
    """

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


def counted_rounds(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that enter the numbers: of a repeated round, the first undisturbed attempt, else the last.

    The choice looks at the disturbance flags, never at the times.
    """
    attempts: dict[int, list[Round]] = defaultdict(list)
    for taken in sorted(rounds, key=lambda r: (r.round_index, r.attempt)):
        attempts[taken.round_index].append(taken)
    return [
        next((r for r in tried if not _DISTURBANCES & set(r.flags)), tried[-1]) for tried in attempts.values()
    ]


def summarize(measurement: Measurement, *, target: float, batch_size: int = 1) -> Summary:
    """All statistics of one measurement.

    `target` is the wanted relative half width of the median's interval; `batch_size` images per inference,
    for the throughput, which is images over the sum of all samples and of the copies that were timed beside
    them. Raises ValueError without rounds.
    """
    rounds = counted_rounds(measurement.rounds)
    if not rounds:
        raise ValueError("a measurement without rounds has no statistics")
    per_round = [_per_inference(r) for r in rounds]
    pooled = np.sort(np.concatenate(per_round))
    medians = np.array([np.median(values) for values in per_round])
    median, low, high = _log_interval(np.log(medians))
    mild, severe = _outliers(per_round)
    middle = float(np.median(pooled))
    return Summary(
        median_ns=median,
        low_ns=low,
        high_ns=high,
        half_width=_half_width(median, high),
        target=target,
        p90=_quantile(pooled, 0.90) if pooled.size >= MIN_SAMPLES_P90 else None,
        p99=_quantile(pooled, 0.99) if pooled.size >= MIN_SAMPLES_P99 else None,
        mean_ns=float(pooled.mean()),
        min_ns=float(pooled[0]),
        max_ns=float(pooled[-1]),
        mad_ns=float(np.median(np.abs(pooled - middle))),
        iqr_ratio=_iqr(pooled) / middle,
        mild_outliers=mild,
        severe_outliers=severe,
        within_spread=float(np.median([_iqr(v) / 1.349 / np.median(v) for v in per_round])),
        between_spread=float(np.log(medians).std(ddof=1)) if medians.size > 1 else None,
        drift=estimate_drift(per_round, [r.started_at_ns for r in rounds]),
        round_medians_ns=tuple(medians.tolist()),
        samples=int(pooled.size),
        rounds=len(rounds),
        repeated_rounds=len(measurement.rounds) - len(rounds),
        unsteady_rounds=sum(not r.steady for r in rounds),
        loop_counts=tuple(sorted({r.loop_count for r in rounds})),
        throughput_per_s=_throughput(rounds, batch_size),
    )


def converged(rounds: Sequence[Round], target: float) -> bool:
    """The stopping rule: is the 95 % interval of the median across rounds within `target` of it?

    False with fewer than two rounds. The caller asks for its minimum number of rounds before this.
    """
    medians = [float(np.median(_per_inference(r))) for r in counted_rounds(rounds)]
    if len(medians) < 2:
        return False
    median, _, high = _log_interval(np.log(medians))
    return _half_width(median, high) <= target


def paired_ratio(a: Measurement, b: Measurement, *, force: bool = False) -> Ratio | None:
    """Median of `a` over median of `b`, paired by round index; None without a common round.

    Raises ProtocolMismatchError for measurements of different protocols unless `force`.
    """
    if a.protocol.id != b.protocol.id and not force:
        raise _mismatch(a, b)
    return _ratio(_round_logs(a), _round_logs(b))


def protocol_differences(a: Measurement, b: Measurement) -> list[str]:
    """`threads (1 and 2)` for every field in which two protocols differ."""
    left, right = a.protocol.to_dict(), b.protocol.to_dict()
    return [f"{name} ({left[name]} and {right[name]})" for name in left if left[name] != right[name]]


def rank_groups(measurements: Mapping[str, Measurement]) -> dict[str, Rank]:
    """The ranks of cases of one protocol, by latency; names are the caller's.

    Two cases tie when their paired 95 % interval includes 1 or their medians are within 1 %. Being tied is
    not transitive, so a rank is a range of places. Raises ProtocolMismatchError.
    """
    _require_one_protocol(measurements)
    logs = {name: _round_logs(measurement) for name, measurement in measurements.items()}
    first, last = dict.fromkeys(logs, 1), dict.fromkeys(logs, len(logs))
    for one, other in itertools.combinations(logs, 2):
        ratio = _ratio(logs[one], logs[other])
        if ratio is not None and ratio.resolved:
            slower, faster = (one, other) if ratio.value > 1.0 else (other, one)
            first[slower] += 1
            last[faster] -= 1
    return {name: Rank(first[name], last[name]) for name in logs}


def kendall_tau(signs: Sequence[tuple[int, int]]) -> float | None:
    """Kendall's tau-b from the signs of the two differences of every pair, 0 for a tie.

    None where one of the two never differs.
    """
    first, second = np.array(signs).reshape(-1, 2).T
    untied = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float(first @ second) / untied if untied else None


def _require_one_protocol(measurements: Mapping[str, Measurement]) -> None:
    found = list(measurements.values())
    for other in found[1:]:
        if other.protocol.id != found[0].protocol.id:
            raise _mismatch(found[0], other)


def _mismatch(a: Measurement, b: Measurement) -> ProtocolMismatchError:
    differing = ", ".join(protocol_differences(a, b))
    return ProtocolMismatchError(f"different protocols are not compared: {differing}")


def _ratio(a: Mapping[int, float], b: Mapping[int, float]) -> Ratio | None:
    """Of logarithms by round index; None without a common round."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    value, low, high = _log_interval(np.array([a[i] - b[i] for i in common]))
    return Ratio(value, low, high, len(common))


def _round_logs(measurement: Measurement) -> dict[int, float]:
    return {
        r.round_index: math.log(float(np.median(_per_inference(r))))
        for r in counted_rounds(measurement.rounds)
    }


def _per_inference(taken: Round) -> Floats:
    return taken.samples_ns / taken.loop_count


def _log_interval(logs: Floats) -> tuple[float, float | None, float | None]:
    """Geometric mean and its 95 % t interval; no interval from a single value."""
    centre = float(logs.mean())
    if logs.size < 2:
        return math.exp(centre), None, None
    half = two_sided_quantile(CONFIDENCE, logs.size - 1) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def _half_width(median: float, high: float | None) -> float:
    return math.inf if high is None else high / median - 1.0


def _quantile(ordered: Floats, level: float) -> Quantile:
    """Nearest-rank quantile with the binomial interval: order statistics that hold it with 95 %."""
    from scipy.special import bdtr

    count = ordered.size
    below = np.asarray(bdtr(np.arange(count), count, level))  # P(at most k samples are below the quantile)
    tail = (1.0 - CONFIDENCE) / 2
    low = int(np.searchsorted(below, tail, side="right"))
    high = min(int(np.searchsorted(below, 1.0 - tail, side="left")), count - 1)
    rank = math.ceil(level * count) - 1
    return Quantile(level, float(ordered[rank]), float(ordered[max(low - 1, 0)]), float(ordered[high]))


def _iqr(values: Floats) -> float:
    first, third = np.quantile(values, (0.25, 0.75))
    return float(third - first)


def _outliers(per_round: Sequence[Floats]) -> tuple[int, int]:
    """How many samples lie 1.5 to 3, and over 3, interquartile ranges outside their round's quartiles."""
    mild = severe = 0
    for values in per_round:
        first, third = np.quantile(values, (0.25, 0.75))
        outside = np.maximum(first - values, values - third)
        far = outside > 3.0 * (third - first)
        severe += int(np.count_nonzero(far))
        mild += int(np.count_nonzero((outside > 1.5 * (third - first)) & ~far))
    return mild, severe


def _throughput(rounds: Sequence[Round], batch_size: int) -> float | None:
    """Images per second of inferences one after the other; on several streams a sample is its whole batch."""
    if any(OTHER_TOOL in r.flags for r in rounds):
        return None
    inferences = sum(r.samples_ns.size * r.loop_count for r in rounds)
    spans = [span for r in rounds for span in (r.samples_ns, *(r.parts[n] for n in _COPIES if n in r.parts))]
    elapsed_ns = sum(float(span.sum(dtype=np.float64)) for span in spans)
    return batch_size * inferences / (elapsed_ns * 1e-9)
