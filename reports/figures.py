"""The report's figures for print: each is one SVG panel, drawn from the same rows as the tables.

Importing this module loads matplotlib; only the report writer does. Every public function returns Drawings.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.drawing import Drawing
from reports.scatter import plain_numbers
from reports.statistics import counted_rounds
from reports.sweep_protocol import alike
from reports.tables import Facet, Row
from reports.thinning import share, thinned

Floats = npt.NDArray[np.float64]

_MAX_DRAWN, _MIN_DRAWN = 60, 3  # samples per round in a distribution panel
_DRAWN_IN_ALL = 30_000
_ROW_IN = 0.235
_SHARE_AXIS_UP_TO = 4.0
_LINEAR_UP_TO = 30.0  # from the fastest to the slowest: beyond it, a linear axis has most dots at its end


def latency_panels(
    facets: Sequence[Facet], unit: tuple[float, str], *, name: str = "latency"
) -> list[Drawing]:
    """Median and 95 % interval of every case, one panel per group, fastest on top; one axis where it fits."""
    ends = _axis_ends(facets, unit)
    shared = max(ends) if shares_axis(facets, unit) else None
    with matplotlib.rc_context(d.style()):
        return [
            _latency_panel(f, unit, shared or end, f"{name}-{i}")
            for i, (f, end) in enumerate(zip(facets, ends, strict=True))
        ]


def shares_axis(facets: Sequence[Facet], unit: tuple[float, str]) -> bool:
    """Are the groups' latencies near enough for one axis over all panels, and do they mean the same?"""
    ends = _axis_ends(facets, unit)
    near = len(ends) > 1 and max(ends) <= _SHARE_AXIS_UP_TO * min(ends)
    return (
        near
        and not any(_is_wide(facet) for facet in facets)
        and len(alike(row for facet in facets for row in facet.rows)) == 1
    )


def _axis_ends(facets: Sequence[Facet], unit: tuple[float, str]) -> list[float]:
    return [max((row.summary.high_ns or row.summary.median_ns) / unit[0] for row in f.rows) for f in facets]


def _is_wide(facet: Facet) -> bool:
    medians = [row.summary.median_ns for row in facet.rows]
    return max(medians) > _LINEAR_UP_TO * min(medians)


def rate_panels(facets: Sequence[Facet]) -> list[Drawing]:
    """Achieved GMAC/s, highest on top, for every group with two cases or more that know their GMACs."""
    with matplotlib.rc_context(d.style()):
        panels = [_rate_panel(facet, f"rate-{i}") for i, facet in enumerate(facets)]
    return [panel for panel in panels if panel]


def sample_panels(facets: Sequence[Facet], *, name: str = "samples") -> list[Drawing]:
    """Every drawn sample as a tick, relative to its case's median; a strip per round, first round on top."""
    most = drawn_per_round(facets)
    with matplotlib.rc_context(d.style()):
        return [_sample_panel(facet, f"{name}-{i}", most) for i, facet in enumerate(facets)]


def drawn_per_round(facets: Sequence[Facet]) -> int:
    """Samples that `sample_panels` draws of each round: fewer where the rounds are many."""
    rounds = sum(len(row.measurement.rounds) for facet in facets for row in facet.rows)
    return share(_DRAWN_IN_ALL, rounds, most=_MAX_DRAWN, least=_MIN_DRAWN)


def ledger_panel(parts: Sequence[tuple[str, int]]) -> Drawing:
    """Where the wall time went: one bar per part, in the order in which a suite goes through them."""
    total = sum(value for _, value in parts) or 1
    with matplotlib.rc_context(d.style()):
        names = [name for name, _ in parts]
        notes = [f"{fmt.span(value)} ({fmt.percent(value / total)})" for _, value in parts]
        figure, axes = dot_axes(names, notes, "share of wall time, %")
        shares = [100 * value / total for _, value in parts]
        axes.barh(range(len(parts)), shares, height=0.55, color=colour.BLUE, lw=0)
        axes.set_xlim(0, max(shares) * 1.02 or 1)
        alt = "; ".join(f"{name} {note}" for name, note in zip(names, notes, strict=True))
        return Drawing("ledger", "Where the time went", f"Wall time: {alt}.", d.to_svg(figure, "ledger"))


def _latency_panel(facet: Facet, unit: tuple[float, str], end: float, name: str) -> Drawing:
    rows = facet.rows
    notes = [
        f"{fmt.duration(r.summary.median_ns, half_width=r.summary.half_width, unit=unit)}"
        f" {fmt.plus_minus(r.summary.half_width)}"
        for r in rows
    ]
    wide = _is_wide(facet)
    title = f"median latency, {unit[1]}{', log axis' if wide else ''}"
    figure, axes = dot_axes([r.label for r in rows], notes, title)
    medians = [r.summary.median_ns / unit[0] for r in rows]
    start = 0.0
    if wide:
        axes.set_xscale("log")
        start = min((r.summary.low_ns or r.summary.median_ns) / unit[0] for r in rows) * 0.8
        end *= 1.2
        plain_numbers(axes.xaxis, start, end)
    leaders = facet.leaders
    for y, row in enumerate(rows):
        s = row.summary
        low, high = (v / unit[0] if v else None for v in (s.low_ns, s.high_ns))
        color = colour.BLUE if row in leaders else colour.VERMILLION if row.serious else colour.INK
        dot(axes, y, s.median_ns / unit[0], low, high, color=color, hollow=bool(row.flags))
    # a log axis has no zero that a bar could begin at: there the lines only lead the eye
    axes.hlines(range(len(rows)), start, medians, colors=colour.GRID, lw=0.8 if wide else 2.2, zorder=1)
    axes.set_xlim(start, end * 1.04)
    alt = "; ".join(f"{r.label} {note}" for r, note in zip(rows, notes, strict=True))
    return Drawing(name, facet.title, f"Median latency at {facet.title}: {alt}.", d.to_svg(figure, name))


def _rate_panel(facet: Facet, name: str) -> Drawing | None:
    rows = sorted((r for r in facet.rows if r.gmacs_per_s), key=lambda r: -(r.gmacs_per_s or 0))
    if len(rows) < 2:
        return None
    rates = [row.gmacs_per_s or 0.0 for row in rows]
    figure, axes = dot_axes([r.label for r in rows], [fmt.rate(v) for v in rates], "achieved GMAC/s")
    axes.barh(
        range(len(rows)), rates, height=0.5, color=[colour.BLUE, *[colour.PALE] * (len(rows) - 1)], lw=0
    )
    axes.set_xlim(0, max(rates) * 1.04)
    alt = "; ".join(f"{r.label} {fmt.rate(v)}" for r, v in zip(rows, rates, strict=True))
    return Drawing(name, facet.title, f"Achieved GMAC/s at {facet.title}: {alt}.", d.to_svg(figure, name))


def _sample_panel(facet: Facet, name: str, most: int) -> Drawing:
    """Samples outside the axis are counted beside it, never left out silently."""
    rows = facet.rows
    deviations = [_deviations(row) for row in rows]
    reach = max(3.0, *(float(np.quantile(np.abs(np.concatenate(rounds)), 0.96)) for rounds in deviations))
    spreads = [
        f"IQR {fmt.percent(row.summary.iqr_ratio)}{_beyond(rounds, reach)}"
        for row, rounds in zip(rows, deviations, strict=True)
    ]
    figure, axes = dot_axes(
        [r.label for r in rows], spreads, "deviation from the case's median, %", row_in=0.36
    )
    for y, (row, rounds) in enumerate(zip(rows, deviations, strict=True)):
        color = colour.VERMILLION if row.flags else colour.BLUE
        _strips(axes, y, rounds, reach, color, most=most)
    axes.axvline(0.0, color=colour.MUTED, lw=0.5)
    axes.set_xlim(-reach * 1.08, reach * 1.08)
    alt = "; ".join(f"{r.label} {spread}" for r, spread in zip(rows, spreads, strict=True))
    return Drawing(
        name, facet.title, f"Raw samples at {facet.title}, by round: {alt}.", d.to_svg(figure, name)
    )


def _strips(axes: Axes, y: int, rounds: Sequence[Floats], reach: float, color: str, *, most: int) -> None:
    """All ticks of a case are one path: thousands of separate marks would make the file ten times larger."""
    step = 0.78 / len(rounds)
    xs, ys = [], []
    middles, heights = [], []
    for place, values in enumerate(rounds):
        low = y - 0.39 + place * step
        shown = values[np.abs(values) <= reach]
        for value in thinned(shown, most):
            xs += [value, value, np.nan]
            ys += [low, low + step * 0.8, np.nan]
        middle = float(np.median(values))
        middles += [middle, middle, np.nan]
        heights += [low, low + step * 0.8, np.nan]
    axes.plot(middles, heights, color=colour.INK, lw=1.4, zorder=4)
    axes.plot(xs, ys, color=color, lw=0.5, alpha=0.55, zorder=3)


def _beyond(rounds: Sequence[Floats], reach: float) -> str:
    """` (+3)`: how many samples the axis has no room for."""
    number = sum(int(np.count_nonzero(np.abs(values) > reach)) for values in rounds)
    return f" (+{number})" if number else ""


def _deviations(row: Row) -> list[Floats]:
    """Percent from the case's median, one array per counted round, in order."""
    median = row.summary.median_ns
    return [
        100.0 * (r.samples_ns / r.loop_count / median - 1.0) for r in counted_rounds(row.measurement.rounds)
    ]


def dot_axes(
    names: Sequence[str], notes: Sequence[str], xlabel: str, *, row_in: float = _ROW_IN
) -> tuple[Figure, Axes]:
    """Axes with one line per name from the top down, and a column of notes on the right."""
    names = d.short(names)
    figure, axes = d.new_axes(0.62 + row_in * max(len(names), 2))
    d.frame(
        figure,
        left_in=0.14 + d.text_width_in(names),
        right_in=0.16 + d.text_width_in(notes, size_pt=d.SMALL_PT),
        bottom_in=0.46,
        top_in=0.06,
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, pad=3)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=colour.GRID, lw=0.5)
    for y, note in enumerate(notes):
        axes.annotate(note, (1.0, y), xycoords=axes.get_yaxis_transform(), xytext=(6, 0),
                      textcoords="offset points", fontsize=d.SMALL_PT, color=colour.MUTED, va="center",
                      annotation_clip=False)  # fmt: skip
    return figure, axes


def dot(
    axes: Axes, y: int, value: float, low: float | None, high: float | None, *, color: str, hollow: bool
) -> None:
    if low is not None and high is not None:
        axes.plot(
            [low, high], [y, y], color=color, lw=1.8, zorder=2, solid_capstyle="butt",
            marker="|", ms=5, mew=0.9, clip_on=False,
        )  # fmt: skip
    axes.plot(
        [value], [y], marker="o", ms=4.4, color=color, mfc="white" if hollow else color, mew=1.1, zorder=3,
        clip_on=False,
    )  # fmt: skip


def pad_x(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    pad = 0.06 * (high - low or high)
    axes.set_xlim(low - pad, high + pad)
