"""Accuracy over latency for print: our own measurements solid, what others published hollow, never mixed.

Importing this module loads matplotlib; only the report writer does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.accuracy import AXIS, Network, Style, described, frontier, measured_axis
from reports.drawing import Drawing
from reports.records import PublishedPoint
from reports.scatter import plain_axis
from reports.tables import Facet

MAX_LABELLED = 16
_AXIS_NAME = 44  # characters of a set of images that the height of a figure holds
_LOG_FROM = 4.0  # a range of latencies that a linear axis would press together
_MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "triangle-down": "v", "cross": "P",
    "x": "X", "star": "*",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Mark:
    """A point to draw; `low` and `high` are its interval or its reading error, in the axis's unit."""

    label: str
    family: str
    x: float
    low: float | None
    high: float | None
    top1: float
    params_m: float | None
    color: str
    top1_interval: tuple[float, float] | None = None


def measured_panel(
    facet: Facet,
    found: Sequence[Network],
    unit: tuple[float, str],
    styles: Mapping[str, Style],
    name: str,
    *,
    data: str = "",
) -> Drawing:
    """Medians with 95 % intervals; the band joins the networks that no other beats on both axes.

    With `data` the accuracies were measured here, on those images; else they are published ones.
    """
    marks = [
        _Mark(
            n.row.label, n.family, n.row.summary.median_ns / unit[0], _scaled(n.row.summary.low_ns, unit),
            _scaled(n.row.summary.high_ns, unit), n.top1, n.row.params_m, styles[n.family].color,
            n.top1_interval,
        )
        for n in found
    ]  # fmt: skip
    alt = "; ".join(
        f"{n.row.label} {fmt.latency(n.row.summary.median_ns, n.row.summary.half_width)}, {n.top1:.4g} %"
        for n in found
    )
    whose, axis = (
        (f"Accuracy measured here on {data}", measured_axis(*d.short([data], _AXIS_NAME)))
        if data
        else ("Published accuracy", AXIS)
    )
    return Drawing(
        name,
        f"Both measured here: {facet.title}" if data else f"Measured here: {facet.title}",
        f"{whose} over latency measured here at {facet.title}: {alt}.",
        _drawn(marks, styles, name, (f"median latency measured here, {unit[1]}", axis), hollow=False),
        f"{f'accuracy on {data}, ' if data else ''}{fmt.count(len(found), 'network')}{_sizes(marks)}",
    )  # fmt: skip


def published_panel(points: Sequence[PublishedPoint], styles: Mapping[str, Style], name: str) -> Drawing:
    """One setup of others, redrawn from their figures."""
    marks = [
        _Mark(
            p.network, p.family, p.latency.ms, p.latency.ms - p.latency.error_ms or None,
            p.latency.ms + p.latency.error_ms or None, p.top1, p.params_m, styles[p.family].color,
        )
        for p in points
    ]  # fmt: skip
    setup, side, metric = points[0].latency.setup, points[0].resolution, points[0].metric
    unit = "" if metric else " %"
    alt = "; ".join(f"{p.network} {fmt.published(p.latency.ms)}, {p.top1:g}{unit}" for p in points)
    return Drawing(
        name,
        f"Published, not measured here: {setup}",
        f"{metric or 'Published accuracy'} over published latency, {setup}: {alt}.",
        _drawn(marks, styles, name, ("latency as published, ms", metric or AXIS), hollow=True),
        f"{metric or f'{side}x{side}'}{_sizes(marks)}; {described(points)}",
    )


def _drawn(
    marks: Sequence[_Mark],
    styles: Mapping[str, Style],
    name: str,
    axes_names: tuple[str, str],
    *,
    hollow: bool,
) -> str:
    xs, ys = [m.x for m in marks], [m.top1 for m in marks]
    with matplotlib.rc_context(d.style()):
        figure, axes = d.new_axes(3.6)
        d.frame(figure, left_in=0.78 if "\n" in axes_names[1] else 0.62, right_in=0.25, bottom_in=0.5)
        best = frontier(xs, ys)
        axes.plot(
            [xs[i] for i in best], [ys[i] for i in best], color=colour.SKY, lw=6, alpha=0.35, zorder=1,
            solid_capstyle="round", solid_joinstyle="round",
        )  # fmt: skip
        for family, members in _families(marks).items():
            _family(axes, members, _MARKERS[styles[family].marker], hollow=hollow)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1], parse_math=False)  # a folder of images may be called anything
        axes.margins(0.12)
        if max(xs) > _LOG_FROM * min(xs):
            axes.set_xscale("log")
            plain_axis(axes, xs, "x")
        axes.grid(color=colour.GRID, lw=0.5)
        labels = _labels(marks, best)
        d.place_labels(axes, list(zip(xs, ys, strict=True)), labels, colors=[colour.INK] * len(marks))
        return d.to_svg(figure, name)


def _families(marks: Sequence[_Mark]) -> dict[str, list[_Mark]]:
    """Members of each family from the smallest to the largest network, by parameters where all are known."""
    found: dict[str, list[_Mark]] = {}
    for mark in marks:
        found.setdefault(mark.family, []).append(mark)
    return {family: sorted(members, key=_size_order(members)) for family, members in found.items()}


def _size_order(members: Sequence[_Mark]) -> Callable[[_Mark], float]:
    known = all(mark.params_m for mark in members)
    return lambda mark: mark.params_m if known and mark.params_m else mark.x


def _family(axes: Axes, members: Sequence[_Mark], marker: str, *, hollow: bool) -> None:
    color = members[0].color
    axes.plot([m.x for m in members], [m.top1 for m in members], color=color, lw=1.0, zorder=2)
    for m in members:
        if m.low is not None and m.high is not None:
            axes.plot([m.low, m.high], [m.top1, m.top1], color=color, lw=1.4, zorder=2, solid_capstyle="butt")
        if m.top1_interval is not None:
            axes.plot([m.x, m.x], m.top1_interval, color=color, lw=1.4, zorder=2, solid_capstyle="butt")
    axes.scatter(
        [m.x for m in members], [m.top1 for m in members], s=[_area(m.params_m) for m in members],
        marker=marker, facecolors="white" if hollow else color, edgecolors=color, linewidths=1.1, zorder=3,
    )  # fmt: skip


def _area(params_m: float | None) -> float:
    """In square points: grows with the parameters, and is that of a small network where they are unknown."""
    return 12.0 + 0.9 * min(params_m or 0.0, 220.0)


def _sizes(marks: Sequence[_Mark]) -> str:
    known = [m.params_m for m in marks if m.params_m]
    if not known:
        return ""
    return f", marks grow with parameters ({fmt.params(min(known))} to {fmt.params(max(known))})"


def _labels(marks: Sequence[_Mark], best: Sequence[int]) -> list[str]:
    """Every name where there is room; of many, the family's at its most accurate network."""
    if len(marks) <= MAX_LABELLED:
        return d.short([mark.label for mark in marks], 20)
    last = {mark.family: i for i, mark in sorted(enumerate(marks), key=lambda item: item[1].top1)}
    names = d.short([mark.family for mark in marks], 18)
    return [
        name if last[mark.family] == i else ""
        for i, (mark, name) in enumerate(zip(marks, names, strict=True))
    ]


def _scaled(value_ns: float | None, unit: tuple[float, str]) -> float | None:
    return None if value_ns is None or not math.isfinite(value_ns) else value_ns / unit[0]
