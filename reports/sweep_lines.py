"""Lines of scaling figures: models by colour and mark, other settings by dash, intervals, a legend below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.scatter import plain_axis
from reports.sweep import AXES, TITLES, Curve, word, words

MAX_LINES: Final = 8
_DASHES: Final = ("-", "--", ":", "-.")
_MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_LEGEND_ROW_IN: Final = 0.165
_HANDLE_IN: Final = 0.5
_LEFT_IN, _RIGHT_IN = 0.62, 0.2
_LEAST_APART: Final = 0.06  # of two ticks, as a share of the axis


class Point(NamedTuple):
    """A value with the ends of its interval, in the unit of its axis."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """What is drawn of a curve: a point for each of its rows; `note` stands behind its name."""

    curve: Curve
    points: tuple[Point, ...]
    note: str = ""

    @property
    def at(self) -> list[tuple[float, float]]:
        return [(x, point.value) for x, point in zip(self.curve.numbers, self.points, strict=True)]


def new_axes(lines: Sequence[Line], ylabel: str, *, also: Sequence[float] = ()) -> tuple[Figure, Axes]:
    """Both axes logarithmic, ticks at the measured settings, and room for the legend below.

    The vertical one holds all points and `also`.
    """
    below_in = _below_in(lines)
    figure, axes = d.new_axes(2.9 + below_in)
    d.frame(figure, left_in=_LEFT_IN, right_in=_RIGHT_IN, bottom_in=0.48 + below_in)
    axis = lines[0].curve.axis
    xlabel = "side of the input, pixels" if axis == "resolution" else TITLES[axis]
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    numbers = sorted({number for line in lines for number in line.curve.numbers})
    room = max(1.06, (numbers[-1] / numbers[0]) ** 0.08)
    axes.set_xlim(numbers[0] / room, numbers[-1] * room)
    axes.xaxis.set_major_locator(FixedLocator(_apart(numbers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ends = [end for line in lines for point in line.points for end in point if end]
    plain_axis(axes, [*ends, *also], "y")
    axes.grid(color=colour.GRID, lw=0.5)
    return figure, axes


def draw(axes: Axes, lines: Sequence[Line]) -> None:
    """Every line with its points and intervals; a hollow point is flagged."""
    for line, look in zip(lines, _looks(lines), strict=True):
        axes.plot(*zip(*line.at, strict=True), color=look["color"], ls=look["ls"], lw=1.3, zorder=2)
        for row, x, point in zip(line.curve.rows, line.curve.numbers, line.points, strict=True):
            _draw_point(axes, x, point, color=look["color"], mark=look["marker"], hollow=bool(row.flags))
    _legend(axes, lines)


def _draw_point(axes: Axes, x: float, point: Point, *, color: str, mark: str, hollow: bool) -> None:
    if point.low is not None and point.high is not None:
        ends = [point.low, point.high]
        axes.plot([x, x], ends, color=color, lw=1.3, marker="_", ms=5, mew=1.0, zorder=2)
    inside = "white" if hollow else color
    axes.plot([x], [point.value], color=color, marker=mark, ms=4.6, mfc=inside, mew=1.1, zorder=3)


def colours(lines: Sequence[Line]) -> list[str]:
    """One for each model, or of a single model for each line, in the order of the palette."""
    keys = [
        _model(line) if _are_several([each.curve for each in lines]) else line.curve.held for line in lines
    ]
    places = list(dict.fromkeys(keys))
    return [colour.SERIES[places.index(key) % len(colour.SERIES)] for key in keys]


def varying(curves: Sequence[Curve]) -> list[str]:
    """The held settings in which the curves differ."""
    return [axis for axis in AXES if len({dict(curve.held).get(axis) for curve in curves}) > 1]


def shared_words(curves: Sequence[Curve]) -> str:
    """What all of them share: `224x224, fp32`, and the model where there is one."""
    told = words(curves[0].held, [axis for axis in AXES if axis not in varying(curves)])
    return told if _are_several(curves) else ", ".join(filter(None, (curves[0].sweep.label, told)))


def names(curves: Sequence[Curve]) -> list[str]:
    """`resnet50, 2 threads`: the model where there are several, and the settings in which they differ."""
    told, several = varying(curves), _are_several(curves)
    return [
        ", ".join(filter(None, (curve.sweep.label if several or not told else "", words(curve.held, told))))
        for curve in curves
    ]


def described(what: str, lines: Sequence[Line], unit: str) -> str:
    """The figure in words: every point of every line."""
    told = [
        f"{name}: "
        + ", ".join(
            f"{fmt.significant(point.value, 3)}{unit} at {word(line.curve.axis, value)}"
            for value, point in zip(line.curve.values, line.points, strict=True)
        )
        for name, line in zip(names([line.curve for line in lines]), lines, strict=True)
    ]
    return f"{what}: {'; '.join(told)}."


def _are_several(curves: Sequence[Curve]) -> bool:
    return len({curve.sweep.label for curve in curves}) > 1


def _model(line: Line) -> str:
    return line.curve.sweep.label


def _looks(lines: Sequence[Line]) -> list[dict[str, str]]:
    tints = colours(lines)
    order = list(dict.fromkeys(tints))
    held = list(dict.fromkeys(line.curve.held for line in lines))
    several = _are_several([line.curve for line in lines])
    return [
        {
            "color": tint,
            "ls": _DASHES[held.index(line.curve.held) % len(_DASHES)] if several else "-",
            "marker": _MARKS[order.index(tint) % len(_MARKS)],
        }
        for line, tint in zip(lines, tints, strict=True)
    ]


def _legend(axes: Axes, lines: Sequence[Line]) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    handles = [Line2D([], [], **look, lw=1.3, ms=4.6) for look in _looks(lines)]  # type: ignore[arg-type]
    corner = (0.14 / d.WIDTH_IN, _below_in(lines) / figure.get_size_inches()[1])
    figure.legend(
        handles, _labels(lines), loc="upper left", bbox_to_anchor=corner,
        ncols=_legend_columns(lines), frameon=False, fontsize=d.SMALL_PT, handlelength=2.4, borderaxespad=0.2,
        labelspacing=0.35, columnspacing=1.2,
    )  # fmt: skip


def _below_in(lines: Sequence[Line]) -> float:
    """Inches that the legend takes."""
    return 0.1 + _LEGEND_ROW_IN * math.ceil(len(lines) / _legend_columns(lines))


def _labels(lines: Sequence[Line]) -> list[str]:
    said = zip(d.short(names([line.curve for line in lines]), 40), lines, strict=True)
    return [f"{name}{f': {line.note}' if line.note else ''}" for name, line in said]


def _legend_columns(lines: Sequence[Line]) -> int:
    """Two where they fit the width."""
    needed_in = _HANDLE_IN + d.text_width_in(_labels(lines), size_pt=d.SMALL_PT)
    return 2 if 2 * needed_in < d.WIDTH_IN - 0.2 and len(lines) > 1 else 1


def _apart(numbers: Sequence[float]) -> list[float]:
    """Those whose labels do not run into one another: the first, and what is far enough from the last."""
    least = (numbers[-1] / numbers[0]) ** _LEAST_APART
    kept = [numbers[0]]
    for number in numbers[1:]:
        if number >= kept[-1] * least:
            kept.append(number)
    return kept
