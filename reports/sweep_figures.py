"""Scaling curves of a run's sweeps: one figure per axis and way of measuring, models as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import matplotlib
from matplotlib.ticker import MaxNLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.drawing import Drawing
from reports.figures import dot, dot_axes, pad_x
from reports.statistics import Ratio
from reports.sweep import Curve, Step, inverse
from reports.sweep_lines import (
    Line,
    Point,
    colours,
    described,
    draw,
    names,
    new_axes,
    shared_words,
)
from reports.tables import Row

Unit = tuple[float, str]

MAX_RATIOS: Final = 24  # lines of the figure of precisions
_FINE: Final = (0, (1, 2))


def latency_per_image(curves: Sequence[Curve], unit: Unit, name: str, *, note: str = "") -> Drawing:
    """Median over batch size, both logarithmic: falling where a larger batch pays."""
    lines = [
        Line(curve, tuple(_median(row, unit[0] * row.case.batch_size) for row in curve.rows))
        for curve in curves
    ]
    with matplotlib.rc_context(d.style()):
        figure, axes = new_axes(lines, f"median latency per image, {unit[1]}")
        draw(axes, lines)
        svg = d.to_svg(figure, name)
    alt = described("Latency per image", lines, f" {unit[1]}")
    return Drawing(name, "Latency per image over batch size", alt, svg, _caption(curves, note))


def throughput(curves: Sequence[Curve], name: str, *, note: str = "") -> Drawing:
    """Images per second over batch size; the interval is that of the median."""
    lines = [Line(curve, tuple(_rate(row) for row in curve.rows)) for curve in curves]
    with matplotlib.rc_context(d.style()):
        figure, axes = new_axes(lines, "images per second")
        draw(axes, lines)
        svg = d.to_svg(figure, name)
    alt = described("Images per second", lines, "")
    return Drawing(name, "Throughput over batch size", alt, svg, _caption(curves, note))


def speed_up(curves: Sequence[Curve], name: str, *, batched: bool, note: str = "") -> Drawing:
    """Speed-up over the fewest threads, paired by round, beside the ideal; its last efficiency."""
    steps = [curve.steps(batched=batched) for curve in curves]
    lines = [_speed_ups(curve, taken) for curve, taken in zip(curves, steps, strict=True) if taken]
    fewest = min(min(line.curve.numbers) for line in lines)
    ideal = [
        (number, number / fewest) for number in sorted({n for line in lines for n in line.curve.numbers})
    ]
    with matplotlib.rc_context(d.style()):
        figure, axes = new_axes(lines, "speed-up", also=[rate for _, rate in ideal])
        axes.plot(*zip(*ideal, strict=True), color=colour.MUTED, lw=1.0, ls=_FINE, zorder=1)
        draw(axes, lines)
        axes.annotate(
            "ideal", ideal[-1], xytext=(-8, 0), textcoords="offset points", ha="right", va="center",
            fontsize=d.SMALL_PT, color=colour.MUTED,
        )  # fmt: skip
        svg = d.to_svg(figure, name)
    told = _caption(curves, "behind a name: parallel efficiency", note)
    return Drawing(name, "Speed-up by threads", described("Speed-up", lines, "×"), svg, told)


def resolution(curves: Sequence[Curve], unit: Unit, name: str, *, batched: bool, note: str = "") -> Drawing:
    """Median over the input's side, the exponent of each step behind a name; fine, how the GMACs grow."""
    lines = [
        Line(curve, tuple(_median(row, unit[0]) for row in curve.rows), _exponents(curve, batched=batched))
        for curve in curves
    ]
    with matplotlib.rc_context(d.style()):
        figure, axes = new_axes(lines, f"median latency, {unit[1]}")
        for line, tint in zip(lines, colours(lines), strict=True):
            grown = _grown_as_gmacs(line)
            if grown:
                axes.plot(line.curve.numbers, grown, color=tint, lw=0.9, ls=(0, (5, 3)), alpha=0.7, zorder=1)
        draw(axes, lines)
        svg = d.to_svg(figure, name)
    alt = described("Median latency", lines, f" {unit[1]}")
    told = _caption(curves, "behind a name: exponents; fine: growth of the GMACs", note)
    return Drawing(name, "Latency over resolution", alt, svg, told)


def precision_ratios(taken: Sequence[tuple[Curve, Step]], name: str, *, note: str = "") -> Drawing:
    """Time of every precision over that of the first, which is fp32 where that was measured."""
    curves = [curve for curve, _ in taken]
    base = " or ".join(dict.fromkeys(str(step.ends[0]) for _, step in taken))
    others = list(dict.fromkeys(str(step.ends[1]) for _, step in taken))
    told = [f"{step.ends[1]}, " if len(others) > 1 else "" for _, step in taken]
    labels = [f"{first}{label}" for first, label in zip(told, names(curves), strict=True)]
    ratios = [step.time for _, step in taken]
    notes = [fmt.ratio_interval(ratio.value, ratio.low, ratio.high) for ratio in ratios]
    with matplotlib.rc_context(d.style()):
        figure, axes = dot_axes(labels, notes, f"time over that of {base}")
        for y, ((_, step), ratio) in enumerate(zip(taken, ratios, strict=True)):
            flagged = bool(step.before.flags or step.after.flags)
            tint = colour.BLUE if ratio.resolved else colour.MUTED
            dot(axes, y, ratio.value, ratio.low, ratio.high, color=tint, hollow=flagged)
        axes.axvline(1.0, color=colour.INK, lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(3))  # names and ratios leave little width
        pad_x(axes, [1.0, *(r.low or r.value for r in ratios), *(r.high or r.value for r in ratios)])
        svg = d.to_svg(figure, name)
    alt = "; ".join(f"{label} {text}" for label, text in zip(labels, notes, strict=True))
    title = f"{others[0] if len(others) == 1 else 'Precisions'} against {base}"
    return Drawing(name, title, f"Time over that of {base}: {alt}.", svg, _caption(curves, note))


def _median(row: Row, scale: float) -> Point:
    s = row.summary
    low, high = (None if bound is None else bound / scale for bound in (s.low_ns, s.high_ns))
    return Point(s.median_ns / scale, low, high)


def _rate(row: Row) -> Point:
    s, rate = row.summary, row.summary.throughput_per_s or math.nan
    low, high = (None if bound is None else rate * s.median_ns / bound for bound in (s.high_ns, s.low_ns))
    return Point(rate, low, high)


def _speed_ups(curve: Curve, steps: Sequence[Step]) -> Line:
    """From its first row on; one without a ratio is not drawn. Its note is the last efficiency."""
    found = {step.after.case.id: inverse(step.time) for step in steps}
    rows = [row for row in curve.rows[1:] if row.case.id in found]
    kept = Curve(curve.sweep, curve.axis, curve.held, (curve.rows[0], *rows))
    points = (Point(1.0), *(_of_ratio(found[row.case.id]) for row in rows))
    return Line(kept, points, fmt.percent(steps[-1].efficiency))


def _of_ratio(ratio: Ratio) -> Point:
    return Point(ratio.value, ratio.low, ratio.high)


def _grown_as_gmacs(line: Line) -> list[float]:
    """The first value, grown as the multiply-accumulates; empty where they are not all counted."""
    counted = [row.gmacs for row in line.curve.rows if row.gmacs]
    if len(counted) < len(line.points):
        return []
    return [line.points[0].value * gmacs / counted[0] for gmacs in counted]


def _exponents(curve: Curve, *, batched: bool) -> str:
    """`1.08, 1.12`: of the pixels, step by step."""
    return ", ".join(f"{step.exponent.value:.2f}" for step in curve.steps(batched=batched))


def _caption(curves: Sequence[Curve], *more: str) -> str:
    return "; ".join(filter(None, (shared_words(curves), *more)))
