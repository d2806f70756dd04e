"""A sweep over two settings as a heat map: each cell has its latency and its images per second in figures.

Everything is placed in inches, so that cells have one size in all maps. Colours are light enough for one ink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon, Rectangle

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.drawing import Drawing
from reports.sweep import AXES, TITLES, Held, Setting, Value, word, words
from reports.sweep_planes import MAX_COLUMNS, HeatMap, cells
from reports.tables import Row

Unit = tuple[float, str]

_CELL_IN: Final = 0.44  # its height
_MAX_CELL_IN: Final = 0.86  # its width
_HEAD_IN, _TICKS_IN, _GAP_IN = 0.26, 0.42, 0.1
_MAX_ROWS, _MAX_PLANES = 12, 4
_PAPER: Final = 0.55  # the share of white in a cell's colour


def drawing(found: HeatMap, unit: Unit, name: str) -> Drawing:
    """One map, its planes one below the other with one scale of colours; the fastest cell is the lightest."""
    planes = found.planes[:_MAX_PLANES]
    columns = found.values(found.columns)[:MAX_COLUMNS]
    rows = found.values(found.rows)[:_MAX_ROWS]
    left_in = 0.3 + d.text_width_in([_tick(found.rows, value) for value in rows])
    width_in = min(_MAX_CELL_IN, (d.WIDTH_IN - left_in - 0.06) / len(columns))
    plane_in = (_HEAD_IN if len(planes) > 1 else 0.04) + _CELL_IN * len(rows) + _TICKS_IN
    with matplotlib.rc_context(d.style()):
        figure, axes = d.new_axes(plane_in * len(planes) + _GAP_IN * (len(planes) - 1))
        axes.set_position((0, 0, 1, 1))
        axes.set(xlim=(0, d.WIDTH_IN), ylim=(figure.get_size_inches()[1], 0))
        axes.set_axis_off()
        scale = _scale(found)
        best = _most_images(found)
        for place, plane in enumerate(planes):
            top_in = place * (plane_in + _GAP_IN)
            if len(planes) > 1:
                axes.text(
                    left_in, top_in + 0.15, words(plane, _told(found)), fontweight="bold", fontsize=d.SMALL_PT
                )
            cell_top_in = top_in + plane_in - _TICKS_IN - _CELL_IN * len(rows)
            _draw_ticks(axes, found, columns, rows, corner=(left_in, cell_top_in), width_in=width_in)
            for column, row, setting in cells(found, plane):
                if column in columns and row in rows:
                    x, y = (
                        left_in + columns.index(column) * width_in,
                        cell_top_in + rows.index(row) * _CELL_IN,
                    )
                    _draw_cell(axes, found, setting, (x, y, width_in), unit=unit, scale=scale, best=best)
        svg = d.to_svg(figure, name)
    title = f"{found.sweep.label}: {TITLES[found.columns]} and {TITLES[found.rows]}"
    return Drawing(name, title, _alt(found, unit), svg, _caption(found, unit))


def shade(share: float) -> str:
    """The colour of a cell, from 0 (fastest) to 1: cividis, uniform to the eye, and made lighter."""
    red, green, blue, _ = matplotlib.colormaps["cividis"](1.0 - share)
    return to_hex((_lighter(red), _lighter(green), _lighter(blue)))


def _lighter(part: float) -> float:
    return _PAPER + (1 - _PAPER) * part


def _scale(found: HeatMap) -> tuple[float, float]:
    """Logarithms of the smallest and largest median of the whole map."""
    medians = [math.log(row.summary.median_ns) for row in _rows(found)]
    return min(medians), max(medians)


def _rows(found: HeatMap) -> list[Row]:
    return [found.sweep.rows[setting] for setting in found.settings if setting in found.sweep.rows]


def _most_images(found: HeatMap) -> Row | None:
    """The one that gives the most images per second, of those that are not in doubt."""
    rated = [row for row in _rows(found) if row.summary.throughput_per_s and not row.serious]
    return max(rated, key=lambda row: row.summary.throughput_per_s or 0.0, default=None)


def _draw_ticks(
    axes: Axes, found: HeatMap, columns: Sequence[Value], rows: Sequence[Value], *,
    corner: tuple[float, float], width_in: float,
) -> None:  # fmt: skip
    left_in, top_in = corner
    bottom_in = top_in + _CELL_IN * len(rows)
    for place, value in enumerate(rows):
        axes.text(
            left_in - 0.07,
            top_in + (place + 0.5) * _CELL_IN,
            _tick(found.rows, value),
            ha="right",
            va="center",
        )
    for place, value in enumerate(columns):
        axes.text(
            left_in + (place + 0.5) * width_in,
            bottom_in + 0.12,
            _tick(found.columns, value),
            ha="center",
            va="center",
        )
    axes.text(
        left_in + len(columns) * width_in / 2,
        bottom_in + 0.3,
        TITLES[found.columns],
        ha="center",
        va="center",
    )
    axes.text(0.1, (top_in + bottom_in) / 2, TITLES[found.rows], rotation=90, ha="center", va="center")


def _draw_cell(
    axes: Axes, found: HeatMap, setting: Setting, place: tuple[float, float, float], *,
    unit: Unit, scale: tuple[float, float], best: Row | None,
) -> None:  # fmt: skip
    row = found.sweep.rows.get(setting)
    if row is None:
        _draw_gap(axes, found.sweep.gaps.get(setting, ""), place)
        return
    low, high = scale
    share = (math.log(row.summary.median_ns) - low) / (high - low) if high > low else 0.0
    _draw_number(axes, row, place, unit=unit, share=share, is_best=row is best)


def _draw_gap(axes: Axes, reason: str, place: tuple[float, float, float]) -> None:
    """Hatched with the reason; a dot where nothing was planned."""
    x, y, width_in = place
    edge, hatch = (colour.PALE, "////") if reason else (colour.GRID, None)
    axes.add_patch(Rectangle((x, y), width_in, _CELL_IN, fc="white", ec=edge, lw=0.6, hatch=hatch))
    letters = int(width_in / d.text_width_in(["m"], size_pt=d.SMALL_PT))
    text = "\n".join(wrap(reason, letters)[:3]) if reason else "·"
    axes.text(
        x + width_in / 2, y + _CELL_IN / 2, text, ha="center", va="center", fontsize=d.SMALL_PT,
        linespacing=1.0, color=colour.VERMILLION if reason else colour.MUTED,
        bbox={"fc": "white", "ec": "none", "pad": 1.0},
    )  # fmt: skip


def _draw_number(
    axes: Axes, row: Row, place: tuple[float, float, float], *, unit: Unit, share: float, is_best: bool
) -> None:
    """The median with its rate below, on the colour of its share of the scale."""
    x, y, width_in = place
    axes.add_patch(Rectangle((x, y), width_in, _CELL_IN, fc=shade(share), ec="white", lw=1.5))
    if is_best:
        inside = (x + 0.02, y + 0.02), width_in - 0.04, _CELL_IN - 0.04
        axes.add_patch(Rectangle(*inside, fc="none", ec=colour.INK, lw=1.4, zorder=3))
    if row.flags:
        mark = colour.VERMILLION if row.serious else colour.ORANGE
        left, right, top, bottom = x + width_in - 0.13, x + width_in - 0.01, y + 0.01, y + 0.13
        ends = [(left, top), (right, top), (right, bottom)]
        axes.add_patch(Polygon(ends, fc=mark, ec="white", lw=0.5, zorder=4))
    rate, middle = row.summary.throughput_per_s, x + width_in / 2
    median_y = y + (0.155 if rate else 0.22)
    axes.text(middle, median_y, _median(row, unit), ha="center", va="center", fontweight="bold")
    if rate:
        axes.text(middle, y + 0.31, fmt.significant(rate, 3), ha="center", va="center", fontsize=d.SMALL_PT)


def _median(row: Row, unit: Unit) -> str:
    s = row.summary
    return fmt.duration(s.median_ns, half_width=s.half_width, unit=unit).removesuffix(f" {unit[1]}")


def _tick(axis: str, value: Value) -> str:
    return word(axis, value) if axis == "resolution" else str(value)


def _told(found: HeatMap) -> tuple[str, ...]:
    """The held settings that differ between the planes."""
    return tuple(axis for axis in AXES if len({dict(plane).get(axis) for plane in found.planes}) > 1)


def _caption(found: HeatMap, unit: Unit) -> str:
    """What all planes share, how a cell is read, and what is not shown."""
    shared = tuple(axis for axis in AXES if axis not in _told(found))
    rated = any(row.summary.throughput_per_s for row in _rows(found))
    reading = f"{unit[1]}, below it images/s" if rated else unit[1]
    if _most_images(found) is not None:
        reading += "; the most outlined"
    if any(row.flags for row in _rows(found)):
        reading += "; a corner is flagged, red in doubt"
    sides = ((found.columns, MAX_COLUMNS), (found.rows, _MAX_ROWS))
    cut = [
        f"the first {most} of {len(found.values(axis))} {axis} values"
        for axis, most in sides
        if len(found.values(axis)) > most
    ]
    if len(found.planes) > _MAX_PLANES:
        cut.append(f"the first {_MAX_PLANES} of {len(found.planes)} maps")
    return "; ".join(filter(None, (words(found.planes[0], shared), reading, *cut)))


def _alt(found: HeatMap, unit: Unit) -> str:
    told = [
        f"{_place(found, plane, column, row)} {_said(found, setting)}"
        for plane in found.planes
        for column, row, setting in cells(found, plane)
        if setting in found.settings
    ]
    return f"{found.sweep.label}, latency and images per second: {'; '.join(told)}."


def _place(found: HeatMap, plane: Held, column: Value, row: Value) -> str:
    here = (word(found.columns, column), word(found.rows, row), words(plane, _told(found)))
    return ", ".join(filter(None, here))


def _said(found: HeatMap, setting: Setting) -> str:
    row = found.sweep.rows.get(setting)
    if row is None:
        return found.sweep.gaps[setting]
    rate = row.summary.throughput_per_s
    parts = (
        fmt.latency(row.summary.median_ns, row.summary.half_width),
        f"{fmt.significant(rate, 3)} images/s" if rate else "",
        "flagged " + ", ".join(flag.label for flag in row.flags) if row.flags else "",
    )
    return ", ".join(filter(None, parts))
