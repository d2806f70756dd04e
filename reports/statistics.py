"""Statistics of raw samples: always recomputed, never stored.

The unit of inference is the round (a fresh process), so every interval of a median is taken across rounds.
The headline `median_ns` is the geometric mean of the round medians, which is the estimate that the interval
(`reports/intervals.py`) is centred on, and whose ratios are the paired ratios: numbers and comparisons in a
report agree. This is the front of `rounds`, `intervals`, `quantiles`, `verdicts` and `ranking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.drift import Drift, estimate_drift
from reports.intervals import half_width, median_interval
from reports.quantiles import MIN_SAMPLES, Quantile, order_statistic, outliers, quartiles
from reports.ranking import Ordering, Rank, kendall_tau, no_order, order, rank_groups
from reports.rounds import Floats, counted_rounds, per_inference_ns
from reports.verdicts import ProtocolMismatchError, Ratio, paired_ratio, protocol_differences
from runners.measurement import Measurement, Round

__all__ = [
    "MIN_ROUNDS",
    "OTHER_TOOL",
    "Drift",
    "Ordering",
    "ProtocolMismatchError",
    "Quantile",
    "Rank",
    "Ratio",
    "Summary",
    "converged",
    "counted_rounds",
    "kendall_tau",
    "no_order",
    "order",
    "paired_ratio",
    "protocol_differences",
    "rank_groups",
    "summarize",
]

MIN_ROUNDS = 5
OTHER_TOOL = "other_tool"  # the flag of a round whose loop is not ours
_COPIES = ("h2d", "d2h")


@dataclass(frozen=True, slots=True)
class Summary:
    """What the samples of one measurement say; times are nanoseconds per inference of the whole batch.

    `half_width` is relative to the median, the wider side of the interval, and infinite with one round.
    `iqr_ratio` is the pooled interquartile range over the pooled median. Outliers are counted with Tukey's
    fences (1.5 and 3 interquartile ranges) of their own round and stay in. `within_spread` is the typical
    relative standard deviation inside a round (from the IQR), `between_spread` that of the round medians.
    `p90` and `p99` are None with too few samples, and where a sample holds several inferences. Spread and
    outliers are then those of means of so many (`loop_counts`).
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


def summarize(measurement: Measurement, *, target: float, batch_size: int = 1) -> Summary:
    """All statistics of one measurement.

    `target` is the wanted relative half width of the median's interval; `batch_size` images per inference,
    for the throughput, which is images over the sum of all samples and of the copies that were timed beside
    them. Raises ValueError without rounds.
    """
    rounds = counted_rounds(measurement.rounds)
    if not rounds:
        raise ValueError("a measurement without rounds has no statistics")
    per_round = [per_inference_ns(r) for r in rounds]
    pooled = np.sort(np.concatenate(per_round))
    quarters = [quartiles(values) for values in per_round]
    medians = np.array([each.median for each in quarters])
    median, low, high = median_interval(np.log(medians))
    mild, severe = outliers(per_round, quarters)
    middle = quartiles(pooled)
    return Summary(
        median_ns=median,
        low_ns=low,
        high_ns=high,
        half_width=half_width(median, high),
        target=target,
        p90=_tail(rounds, per_round, 0.90),
        p99=_tail(rounds, per_round, 0.99),
        mean_ns=float(pooled.mean()),
        min_ns=float(pooled[0]),
        max_ns=float(pooled[-1]),
        mad_ns=float(np.median(np.abs(pooled - middle.median))),
        iqr_ratio=middle.range / middle.median,
        mild_outliers=mild,
        severe_outliers=severe,
        within_spread=float(np.median([each.range / 1.349 / each.median for each in quarters])),
        between_spread=float(np.log(medians).std(ddof=1)) if medians.size > 1 else None,
        drift=estimate_drift(per_round, [(r.round_index, r.attempt) for r in rounds]),
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

    The interval is the one that `summarize` gives, whose quantile allows for being stopped by this very
    rule. False with fewer than two rounds. The caller asks for its minimum number of rounds before this.
    """
    medians = [float(np.median(per_inference_ns(r))) for r in counted_rounds(rounds)]
    if len(medians) < 2:
        return False
    median, _, high = median_interval(np.log(medians))
    return half_width(median, high) <= target


def _tail(rounds: Sequence[Round], per_round: Sequence[Floats], level: float) -> Quantile | None:
    """A quantile of single inferences; that of means of several would lie far below it."""
    single = all(r.loop_count == 1 for r in rounds)
    enough = sum(values.size for values in per_round) >= MIN_SAMPLES[level]
    return order_statistic(per_round, level) if single and enough else None


def _throughput(rounds: Sequence[Round], batch_size: int) -> float | None:
    """Images per second: the batch over the mean time of an inference, its copies included.

    Inferences of a round run back to back, so their mean is wall time over their number. On a GPU it is the
    mean of device spans, without the gaps between launches; on several streams a sample is its whole batch.
    """
    if any(OTHER_TOOL in r.flags for r in rounds):
        return None
    inferences = sum(r.samples_ns.size * r.loop_count for r in rounds)
    spans = [span for r in rounds for span in (r.samples_ns, *(r.parts[n] for n in _COPIES if n in r.parts))]
    elapsed_ns = sum(float(span.sum(dtype=np.float64)) for span in spans)
    return batch_size * inferences / (elapsed_ns * 1e-9)
