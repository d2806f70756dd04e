"""A case over time as a section of the HTML report: a figure per series, and its runs as a table."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.ticker import MaxNLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.change_points import LEVEL, MIN_AFTER, MIN_CHANGE, MIN_RUNS
from reports.drawing import Drawing
from reports.grids import Cell, Grid, Line
from reports.history import Series
from reports.history_text import change_sentence, subtitle, verdict
from reports.sections import Section

_HEIGHT_IN = 2.1
_METHOD = (
    "Runs of one protocol and machine, in the order in which they were taken; a bar is the run's own 95 %"
    " interval, which does not hold what varies between runs. An orange line is a change of level: binary"
    f" segmentation of the run medians with a permutation test at {100 * LEVEL:g} %, of"
    f" {100 * MIN_CHANGE:g} % at least, with {MIN_AFTER} runs on either side, in {MIN_RUNS} runs at least."
)


def section(series: Sequence[Series], name: str) -> Section:
    """`name` is what was asked for."""
    with matplotlib.rc_context(d.style()):
        drawings = tuple(_panel(one, f"history-{place}") for place, one in enumerate(series))
    return Section(
        anchor="history",
        short="History",
        title=f"{name} over time",
        paragraphs=tuple(f"{one.label}: {_told(one)}" for one in series),
        drawings=drawings,
        grids=tuple(_grid(one) for one in series),
        notes=(_METHOD,),
    )


def _told(one: Series) -> str:
    changes = "; ".join(change_sentence(one, change) for change in one.changes)
    return f"{verdict(one)} {changes}." if changes else verdict(one)


def _panel(one: Series, name: str) -> Drawing:
    unit = fmt.time_unit(min(point.median_ns for point in one.points))
    figure, axes = d.new_axes(_HEIGHT_IN)
    d.frame(figure, left_in=0.62, right_in=0.16, bottom_in=0.46, top_in=0.12)
    for change in one.changes:
        axes.axvline(change.place - 0.5, color=colour.VERMILLION, lw=1.0, zorder=1)
    xs = range(len(one.points))
    middles = [point.median_ns / unit[0] for point in one.points]
    lows = [(point.low_ns or point.median_ns) / unit[0] for point in one.points]
    highs = [(point.high_ns or point.median_ns) / unit[0] for point in one.points]
    axes.vlines(xs, lows, highs, color=colour.BLUE, lw=1.2, zorder=2)
    axes.plot(xs, middles, marker="o", ms=3.2, lw=0.6, color=colour.BLUE, zorder=3)
    axes.set_ylabel(f"median, {unit[1]}")
    axes.set_xlabel("run")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(-0.6, len(one.points) - 0.4)
    axes.xaxis.set_major_formatter(lambda x, _: _run_at(one, x))
    axes.grid(axis="y", color=colour.GRID, lw=0.5)
    first, last = (fmt.duration(one.points[i].median_ns) for i in (0, -1))
    alt = (
        f"Medians of {one.label} in {fmt.count(len(one.points), 'run')}, from {first} to {last}. {_told(one)}"
    )
    return Drawing(name, one.label, alt, d.to_svg(figure, name), caption=subtitle(one))


def _run_at(one: Series, x: float) -> str:
    place = round(x)
    return str(one.points[place].run_id) if 0 <= place < len(one.points) and x == place else ""


def _grid(one: Series) -> Grid:
    heads = (
        ("Run", True, ""),
        ("When", False, ""),
        ("Revision", False, ""),
        ("Median [95 %]", True, "interval across the rounds of the run"),
        ("Rounds", True, ""),
        ("Change", False, ""),
    )
    marks = {change.place: change for change in one.changes}
    lines = []
    for place, point in enumerate(one.points):
        change = marks.get(place)
        lines.append(
            Line(
                (
                    Cell(str(point.run_id), point.run_id),
                    Cell(fmt.moment(point.started_at_ns), point.started_at_ns),
                    Cell(point.revision),
                    Cell(fmt.latency_interval(point.median_ns, point.low_ns, point.high_ns), point.median_ns),
                    Cell(str(point.rounds), point.rounds),
                    Cell(f"{fmt.significant(change.ratio, 4)}×" if change else ""),
                )
            )
        )
    return Grid(f"{one.label}: every run", heads, tuple(lines))
