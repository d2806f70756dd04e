"""Accuracies of networks of one latency: intervals over trainings and over images, and who is told apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports import formatting as fmt
from reports.evaluations import Share
from reports.student import two_sided_quantile
from reports.verdicts import CONFIDENCE

if TYPE_CHECKING:
    from reports.matched import Matched

Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of independent trainings with Student's 95 % interval; none from a single one."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = two_sided_quantile(CONFIDENCE, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def over_images(each: Matched) -> Interval:
    """Wilson's 95 % interval of the mean accuracy, as that of one network on so many images."""
    return Share(round(statistics.fmean(each.top1) * each.images), each.images).interval


def told_apart(one: Matched, other: Matched) -> bool:
    """Neither their intervals over trainings overlap, nor those over images.

    Two trainings or more of each are needed. That is stricter than a test of the difference.
    """
    return all(
        first is not None and second is not None and not _overlap(first, second)
        for first, second in (
            (_over_trainings(one), _over_trainings(other)),
            (over_images(one), over_images(other)),
        )
    )


def sentences(matched: Sequence[Matched]) -> tuple[str, ...]:
    """What the accuracies say, of the networks that are at the reference's latency; nothing without two."""
    judged = [each for each in matched if each.top1 and each.is_matched]
    left_out = [each.model for each in matched if each.top1 and not each.is_matched]
    beside = f" Not at its latency, and not in this: {fmt.listing(left_out)}." if left_out else ""
    if len(judged) < 2:
        return (beside.strip(),) if beside else ()
    best = max(judged, key=lambda each: statistics.fmean(each.top1))
    others = [each for each in judged if each is not best]
    below = [each.model for each in others if told_apart(best, each)]
    ties = [each.model for each in others if each.model not in below]
    if not below:
        return (
            f"The digits tell none of these {len(judged)} networks apart: every interval of accuracy, over"
            f" trainings or over images, overlaps with that of the highest mean, {best.model}.{beside}",
        )
    tied = f", which the digits do not tell apart from {fmt.listing(ties)}" if ties else ""
    return (f"Highest mean: {best.model}{tied}. Below it: {fmt.listing(below)}.{beside}",)


def notes(matched: Sequence[Matched]) -> tuple[str, ...]:
    """How to read the accuracies; nothing where nothing was trained."""
    trained = [each for each in matched if each.top1]
    if not trained:
        return ()
    seeds, one = max(len(each.top1) for each in trained), trained[0]
    low, high = over_images(one)
    return (
        f"Top-1 on the {one.images} digits held out, after the last epoch, mean over"
        f" {fmt.count(seeds, 'seed')}. Its interval is Student's and holds what differs from seed to seed."
        f" One image is {100 / one.images:.2f} %, so 0.1 % are {one.images / 1000:.1f} images. What other"
        f" images would change is not in it: {100 * statistics.fmean(one.top1):.1f} % of so few stand for"
        f" {100 * low:.1f} to {100 * high:.1f} % (Wilson, 95 %).",
        "Digits of 8x8 demonstrate the method: they say nothing of ImageNet.",
    )


def _over_trainings(each: Matched) -> Interval | None:
    _, low, high = mean_interval(each.top1)
    return None if low is None or high is None else (low, high)


def _overlap(one: Interval, other: Interval) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
