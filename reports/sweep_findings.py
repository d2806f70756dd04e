"""What a run's sweeps say in words: best rate and its price, where threads stop paying, what int8 saves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from reports import agreement
from reports import formatting as fmt
from reports.statistics import Ratio
from reports.sweep import Curve, Step, Sweep, inverse, setting_of, step_between, word, words
from reports.tables import Row

WITHIN: Final = 0.05  # of the best rate: what a smaller batch may lack of it
_MAX_MODELS: Final = 6


def sentences(found: Sequence[Sweep], *, batched: bool) -> list[str]:
    """One on every model, as far as they are few, and one on every precision and on resolution over all."""
    told = [_of_model(sweep, batched=batched) for sweep in found[:_MAX_MODELS]]
    lines = [text for text in told if text]
    left = sum(bool(_rated(sweep)) for sweep in found[_MAX_MODELS:])
    if left:
        lines.append(f"The same of {fmt.count(left, 'more sweep')} is in the tables alone.")
    return [
        *lines,
        *precision_sentences(found, batched=batched),
        *resolution_sentence(found, batched=batched),
    ]


def _of_model(sweep: Sweep, *, batched: bool) -> str:
    rate, threads = rate_sentence(sweep), threads_sentence(sweep, batched=batched)
    return " ".join(filter(None, (rate or (threads and f"{sweep.label}:"), threads)))


def rate_sentence(sweep: Sweep) -> str:
    """The setting with the most images per second, and its latency, at the resolution and precision that
    have most cases; what another precision gives there, where it is more.
    """
    rows = _rated(sweep)
    if not rows:
        return ""
    best = max(rows, key=_rate)
    place = setting_of(best.case)
    told = [axis for axis in ("resolution", "precision") if axis in sweep.varied]
    side = f" at {words(place.held('batch', 'threads'), told)}," if told else ""
    took = fmt.latency(best.summary.median_ns, best.summary.half_width)
    return (
        f"{sweep.label} gives the most images per second{side} with {_where(best, sweep)}:"
        f" {fmt.significant(_rate(best), 3)}, each inference taking {took}"
        f"{_smaller_batch(best, rows)}{_other_precision(best, sweep)}."
    )


def threads_sentence(sweep: Sweep, *, batched: bool) -> str:
    """Up to how many threads each step gains beyond the noise, on the first line with no number in doubt."""
    curve = _sound(sweep, "threads")
    if curve is None:
        return ""
    last, refused = _where_threads_stop(curve, batched=batched)
    at = words(curve.held, [axis for axis in sweep.varied if axis != "threads"])
    where = f" ({at})" if at else ""
    gained = (
        step_between("threads", curve.rows[0], last, batched=batched) if last is not curve.rows[0] else None
    )
    text = ""
    if gained:
        text = (
            f"{word('threads', last.case.threads)} are {_ratio(inverse(gained.time))} as fast as"
            f" {curve.rows[0].case.threads}{where}, an efficiency of {fmt.percent(gained.efficiency)}"
        )
    if refused:
        more = f"{word('threads', refused.after.case.threads)} over {refused.before.case.threads}"
        stops = f"{more} gain nothing beyond the noise: {_ratio(inverse(refused.time))}"
        text = f"{text}; {stops}" if text else f"{stops}{where}"
    return f"{text}." if text else ""


def precision_sentences(found: Sequence[Sweep], *, batched: bool) -> list[str]:
    """`int8 takes 0.35× (resnet50) to 0.61× (nextvit_small) of the time of fp32; ...`, over all sweeps."""
    taken: dict[tuple[object, object], list[tuple[str, Step]]] = defaultdict(list)
    for sweep in found:
        curve = _sound(sweep, "precision")
        for step in curve.steps(batched=batched) if curve else ():
            taken[step.ends].append((sweep.label, step))
    return [
        f"{after} takes {_range((step.time.value, label) for label, step in steps)} of the time of"
        f" {before}{agreement.at_least([step.after.result for _, step in steps])}."
        for (before, after), steps in taken.items()
    ]


def resolution_sentence(found: Sequence[Sweep], *, batched: bool) -> list[str]:
    """From the smallest to the largest side: the power of the pixels that latency and GMACs grow with."""
    steps = [
        (sweep.label, step)
        for sweep in found
        if (curve := _sound(sweep, "resolution"))
        and (step := step_between("resolution", curve.rows[0], curve.rows[-1], batched=batched))
    ]
    if not steps:
        return []
    sides = list(dict.fromkeys(step.ends for _, step in steps))
    first, last = (word("resolution", side) for side in sides[0])
    span = f"From {first} to {last}" if len(sides) == 1 else "From the smallest to the largest resolution"
    grown = _range(((step.exponent.value, label) for label, step in steps), unit="")
    return [
        f"{span} latency grows with the number of pixels to the power of {grown}; 1 would be in proportion."
    ]


def _sound(sweep: Sweep, axis: str) -> Curve | None:
    """The first line along an axis of which no number is in doubt."""
    sound = (curve for curve in sweep.curves(axis) if not any(row.serious for row in curve.rows))
    return next(sound, None)


def _rated(sweep: Sweep) -> list[Row]:
    """Those with a rate and not in doubt, of the resolution and precision with most of them, if several."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for setting, row in sweep.rows.items():
        if row.summary.throughput_per_s and not row.serious:
            groups[setting.resolution, setting.precision].append(row)
    most = max(groups.values(), key=len, default=[])
    return most if len(most) > 1 else []


def _where(row: Row, sweep: Sweep) -> str:
    """`batch 8, 2 threads`, as far as they vary."""
    varied = [axis for axis in ("batch", "threads") if axis in sweep.varied]
    return words(setting_of(row.case).held("resolution", "precision"), varied)


def _other_precision(best: Row, sweep: Sweep) -> str:
    place = setting_of(best.case)
    beside = [
        row
        for setting, row in sweep.rows.items()
        if setting.resolution == place.resolution and setting.precision != place.precision
    ]
    more = max((row for row in beside if not row.serious), key=_rate, default=best)
    if _rate(more) <= _rate(best):
        return ""
    rate = fmt.significant(_rate(more), 3)
    return f"; {more.case.precision} gives more, {rate} with {_where(more, sweep)}"


def _rate(row: Row) -> float:
    return row.summary.throughput_per_s or 0.0


def _smaller_batch(best: Row, rows: Sequence[Row]) -> str:
    """Which smaller batch comes within 5 % of the best, all else being equal."""
    held = setting_of(best.case).held("batch")
    along = [row for row in rows if setting_of(row.case).held("batch") == held]
    if len(along) < 2:
        return ""
    enough = min(
        (row for row in along if _rate(row) >= (1 - WITHIN) * _rate(best)),
        key=lambda row: row.case.batch_size,
    )
    share = fmt.percent(WITHIN, digits=1)
    if enough is not best:
        return (
            f"; batch {enough.case.batch_size} is the smallest within {share} of it, with"
            f" {fmt.significant(_rate(enough), 3)} in {fmt.duration(enough.summary.median_ns)}"
        )
    smallest = min(row.case.batch_size for row in along)
    return f"; no smaller batch is within {share} of it" if best.case.batch_size > smallest else ""


def _where_threads_stop(curve: Curve, *, batched: bool) -> tuple[Row, Step | None]:
    """The last row up to which every step is faster beyond the noise, and the step that is not."""
    last = curve.rows[0]
    for before, after in pairwise(curve.rows):
        step = step_between("threads", before, after, batched=batched)
        if step is None:
            break
        if not (step.time.resolved and step.time.value < 1):
            return last, step
        last = after
    return last, None


def _range(values: Iterable[tuple[float, str]], *, unit: str = "×") -> str:
    """`0.35× (resnet50) to 0.61× (nextvit_small)`, or `0.35×` of a single one."""
    found = sorted(values)
    low, high = (f"{fmt.significant(value, 3)}{unit}" for value in (found[0][0], found[-1][0]))
    if len(found) == 1:
        return f"{low} ({found[0][1]})"
    return f"{low} ({found[0][1]}) to {high} ({found[-1][1]})"


def _ratio(ratio: Ratio) -> str:
    return fmt.ratio_interval(ratio.value, ratio.low, ratio.high)
