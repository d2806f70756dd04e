"""The roofline as a figure: operations per second over operations per byte, both logarithmic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.drawing import Drawing

if TYPE_CHECKING:
    from reports.roofline import Point, Roof

_COLOURS = {
    "fp32": colour.BLUE,
    "bf16": colour.GREEN,
    "fp16": colour.PURPLE,
    "int8": colour.VERMILLION,
}
_ROOM = 1.6  # beyond the outermost points, as a factor


def panels(roofs: Iterable[Roof], points: Sequence[Point]) -> list[Drawing]:
    """One panel for every runtime and thread count, a roof for every precision that it was measured in."""
    found = list(roofs)
    with matplotlib.rc_context(d.style()):
        return [
            _panel(
                setting,
                [roof for roof in found if roof.setting == setting],
                [point for point in points if point.roof.setting == setting],
                f"roofline-{number}",
            )
            for number, setting in enumerate(dict.fromkeys(roof.setting for roof in found))
        ]


def _panel(setting: str, roofs: Sequence[Roof], points: Sequence[Point], name: str) -> Drawing:
    figure, axes = d.new_axes(4.2)
    d.frame(figure, left_in=0.62, right_in=0.2, bottom_in=0.5)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte, at most", ylabel="Gop/s")
    low, high = _x_limits(roofs, points)
    rates = [point.ops_per_s / 1e9 for point in points]
    top = max(roof.ops_per_s / 1e9 for roof in roofs)
    bottom = min([*rates, *(roof.attainable(low) / 1e9 for roof in roofs)])
    axes.set(xlim=(low, high), ylim=(bottom / _ROOM, top * 2))
    _plain_axes(axes)
    for roof in roofs:
        _draw_roof(axes, roof, low, high)
    at = [(point.intensity, rate) for point, rate in zip(points, rates, strict=True)]
    colours = [_colour(point.roof.precision) for point in points]
    axes.scatter([x for x, _ in at], [y for _, y in at], s=22, c=colours, zorder=3)
    labels = d.short([_label(point, points) for point in points], 22)
    d.place_labels(axes, at, labels, colors=colours)
    alt = "; ".join(
        [f"peak in {roof.precision} {fmt.significant(roof.ops_per_s / 1e9, 3)} Gop/s" for roof in roofs]
        + [f"{point.row.label} in {point.roof.precision} {fmt.percent(point.of_peak)}" for point in points]
    )
    return Drawing(
        name, setting, f"Roofline of {setting}: {alt}.", d.to_svg(figure, name), "share of the measured roof"
    )


def _x_limits(roofs: Sequence[Roof], points: Sequence[Point]) -> tuple[float, float]:
    """All points and all ridges, where a roof bends."""
    ridges = [roof.ops_per_s / roof.bytes_per_s for roof in roofs if roof.bytes_per_s]
    values = [point.intensity for point in points] + ridges or [1.0, 100.0]
    return min(values) / _ROOM, max(values) * _ROOM


def _draw_roof(axes: Axes, roof: Roof, low: float, high: float) -> None:
    xs = np.geomspace(low, high, 200)
    ys = [roof.attainable(float(x)) / 1e9 for x in xs]
    axes.plot(xs, ys, color=_colour(roof.precision), lw=1.3, zorder=2)
    axes.annotate(
        f"{roof.precision} {fmt.significant(roof.ops_per_s / 1e9, 3)}",
        (high, roof.ops_per_s / 1e9),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=d.SMALL_PT,
        color=_colour(roof.precision),
    )


def _label(point: Point, points: Sequence[Point]) -> str:
    """The case's name, with its shape where several have it in one precision."""
    same = [one for one in points if one.row.label == point.row.label and one.roof is point.roof]
    return f"{point.row.label} {point.row.case.model.shape_label}" if len(same) > 1 else point.row.label


def _plain_axes(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color=colour.GRID, lw=0.5)


def _colour(precision: str) -> str:
    return _COLOURS.get(precision, colour.INK)
