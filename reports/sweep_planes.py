"""Which two settings of a sweep make a heat map: as few maps as show every case that lies in a rectangle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, product

from reports.sweep import AXES, Held, Setting, Sweep, Value, order_of

MAX_COLUMNS = 8  # that fit a figure's width


@dataclass(frozen=True)
class HeatMap:
    """A sweep over two axes: one plane for every combination of the other settings, in plan order."""

    sweep: Sweep
    columns: str
    rows: str
    planes: tuple[Held, ...]

    @property
    def settings(self) -> set[Setting]:
        """The planned cases in its planes."""
        planned = (*self.sweep.rows, *self.sweep.gaps)
        return {each for each in planned if each.held(self.columns, self.rows) in self.planes}

    def values(self, axis: str) -> list[Value]:
        found = {setting.at(axis) for setting in self.settings}
        return sorted(found, key=lambda value: order_of(axis, value))

    def place(self, plane: Held, column: Value, row: Value) -> Setting:
        """The setting of a cell, planned or not."""
        chosen = {**dict(plane), self.columns: column, self.rows: row}
        return Setting(*(chosen[axis] for axis in AXES))  # type: ignore[arg-type]


def heat_maps(sweep: Sweep) -> list[HeatMap]:
    """The pair of axes that shows most cases in fewest planes, then what shows most of the rest."""
    candidates = [found for pair in combinations(sweep.varied, 2) if (found := _over(sweep, *pair)).planes]
    left = {setting for candidate in candidates for setting in candidate.settings}
    chosen = []
    while left:
        best = max(candidates, key=lambda found: (len(found.settings & left), -len(found.planes)))
        new = tuple(plane for plane in best.planes if replace(best, planes=(plane,)).settings & left)
        chosen.append(_turned(replace(best, planes=new)))
        left -= best.settings
    return chosen


def _over(sweep: Sweep, columns: str, rows: str) -> HeatMap:
    """Of all planes over these axes those with a rectangle: a cross of two lines is no map."""
    planes: dict[Held, list[Setting]] = defaultdict(list)
    for setting in (*sweep.rows, *sweep.gaps):
        planes[setting.held(columns, rows)].append(setting)
    kept = [
        plane
        for plane, cells in planes.items()
        if sum(cell in sweep.rows for cell in cells) > 1 and _has_rectangle(cells, columns, rows)
    ]
    return HeatMap(sweep, columns, rows, tuple(kept))


def _has_rectangle(cells: Iterable[Setting], columns: str, rows: str) -> bool:
    lines: dict[Value, set[Value]] = defaultdict(set)
    for cell in cells:
        lines[cell.at(rows)].add(cell.at(columns))
    return any(len(one & other) > 1 for one, other in combinations(lines.values(), 2))


def _turned(found: HeatMap) -> HeatMap:
    """With the longer axis across, where it fits the width."""
    across, down = len(found.values(found.columns)), len(found.values(found.rows))
    if (down > across and down <= MAX_COLUMNS) or (down < across and across > MAX_COLUMNS):
        return replace(found, columns=found.rows, rows=found.columns)
    return found


def cells(found: HeatMap, plane: Held) -> list[tuple[Value, Value, Setting]]:
    """(column, row, setting) of every cell of a plane."""
    return [
        (column, row, found.place(plane, column, row))
        for row, column in product(found.values(found.rows), found.values(found.columns))
    ]
