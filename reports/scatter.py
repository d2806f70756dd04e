"""Scatter panels for print: latency over what is said to predict it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from reports import drawing as d
from reports import palette as colour
from reports.drawing import Drawing
from reports.findings import CostAgreement
from reports.tables import Facet, Row

_MAX_RATE_LINES = 4
_MAX_LABELS = 24
_PROXIES = {"gmacs": ("GMACs", "GMACs per inference"), "params_m": ("parameters", "parameters, M")}


def cost_panels(
    facets: Sequence[Facet], agreements: Mapping[tuple[str, str], CostAgreement], unit: tuple[float, str]
) -> list[Drawing]:
    """Latency over GMACs and over parameters, log-log; `agreements` by (group title, cost)."""
    with matplotlib.rc_context(d.style()):
        return [
            _cost_panel(facet, cost, agreements[facet.title, cost], unit, f"cost-{i}-{cost.split('_')[0]}")
            for i, facet in enumerate(facets)
            for cost in _PROXIES
            if (facet.title, cost) in agreements
        ]


def _cost_panel(
    facet: Facet, cost: str, agreement: CostAgreement, unit: tuple[float, str], name: str
) -> Drawing:
    proxy, axis = _PROXIES[cost]
    rows = [row for row in facet.ranked if getattr(row, cost)]
    where = {row.case.id: (float(getattr(row, cost)), row.summary.median_ns / unit[0]) for row in rows}
    points = list(where.values())
    figure, axes = d.new_axes(3.3)
    d.frame(figure, left_in=0.62, right_in=0.2, bottom_in=0.5)
    axes.set(xscale="log", yscale="log", xlabel=axis, ylabel=f"median latency, {unit[1]}")
    _log_limits(axes, points)
    if cost == "gmacs":
        _rate_lines(axes, unit)
    for inversion in agreement.inversions:
        ends = [where[inversion.small.case.id], where[inversion.large.case.id]]
        axes.plot(*zip(*ends, strict=True), color=colour.VERMILLION, lw=1.0, alpha=0.75, zorder=2)
    colors = [colour.BLUE if row in facet.leaders else colour.INK for row in rows]
    axes.scatter([x for x, _ in points], [y for _, y in points], s=22, c=colors, zorder=3)
    d.place_labels(axes, points, _labels(rows, facet, agreement), colors=colors)
    tau = "undefined" if agreement.tau is None else f"{agreement.tau:.2f}"
    alt = f"Latency over {proxy} at {facet.title}; Kendall's tau is {tau}."
    return Drawing(name, f"{facet.title}: latency over {proxy}", alt, d.to_svg(figure, name), f"τ = {tau}")


def _labels(rows: Sequence[Row], facet: Facet, agreement: CostAgreement) -> list[str]:
    """Every name where there is room for them; of many, the fastest and those that lines join."""
    shown = {row.case.id for row in facet.leaders[:_MAX_LABELS]}
    shown |= {end.case.id for it in agreement.inversions for end in (it.small, it.large)}
    few = len(rows) <= _MAX_LABELS
    names = d.short([row.label for row in rows], 18)
    return [name if few or row.case.id in shown else "" for row, name in zip(rows, names, strict=True)]


def _log_limits(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    for values, name in zip(zip(*points, strict=True), ("x", "y"), strict=True):
        plain_axis(axes, values, name)
    axes.grid(color=colour.GRID, lw=0.5)


def plain_axis(axes: Axes, values: Sequence[float], name: str) -> None:
    """Plain numbers on a log axis (`x` or `y`), and room for labels around the points."""
    axis, limit = (axes.xaxis, axes.set_xlim) if name == "x" else (axes.yaxis, axes.set_ylim)
    low, high = min(values), max(values)
    room = max(1.12, (high / low) ** 0.16)
    limit(low / room, high * room)
    plain_numbers(axis, low / room, high * room)


def plain_numbers(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a log axis that goes from `low` to `high`."""
    axis.set_major_locator(_plain_ticks(low, high))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _plain_ticks(low: float, high: float) -> FixedLocator:
    """Round numbers on a log axis: evenly spaced below a factor 4, 1-2-5 steps above 20, denser between.

    Powers of ten alone where the axis is wider than a factor 300.
    """
    if high / low < 4:
        return FixedLocator([float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high])
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 3, 5, 7) if high / low < 20 else (1, 2, 5) if high / low < 300 else (1,)
    return FixedLocator([m * 10.0**e for e in exponents for m in steps if low <= m * 10.0**e <= high])


def _rate_lines(axes: Axes, unit: tuple[float, str]) -> None:
    """Dotted lines of equal GMAC/s: on one of them latency follows the GMACs, between them it does not."""
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    per_unit = 1e9 / unit[0]  # time units per second
    for rate in _round_rates(x0 / y1 * per_unit, x1 / y0 * per_unit):
        axes.plot([x0, x1], [x0 / rate * per_unit, x1 / rate * per_unit], color=colour.MUTED, lw=0.5, ls=":")
        at = min(x1, y1 * rate / per_unit)
        axes.annotate(
            f"{rate:g} GMAC/s",
            (at, at / rate * per_unit),
            xytext=(-2, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=d.SMALL_PT,
            color=colour.MUTED,
        )
    axes.set(xlim=(x0, x1), ylim=(y0, y1))


def _round_rates(slowest: float, fastest: float) -> list[float]:
    """Rates of 1, 2 and 5 times a power of ten inside the range, or the powers alone where those are many."""
    exponents = range(math.floor(math.log10(slowest)), math.ceil(math.log10(fastest)) + 1)
    rates = [m * 10.0**e for e in exponents for m in (1, 2, 5) if slowest < m * 10.0**e < fastest]
    powers = [10.0**e for e in exponents if slowest < 10.0**e < fastest]
    return rates if len(rates) <= _MAX_RATE_LINES else powers
