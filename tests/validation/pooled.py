"""Trials of two runs as one section: what was counted adds up, and nothing that was taken is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.validation.document import Cell, Section

COUNTS = ("trials", "pairs", "comparisons", "false at 0", "false at 1 %")
WEIGHT = "trials"
_WITH = " With the trials of "

Met = Callable[[Mapping[str, Cell]], bool]


def pooled(earlier: Section, now: Section, met: Met) -> Section:
    """Counts summed, shares and other figures as means over all trials, `met` judged anew of each row.

    Rows belong together by their first cell. Time, machine and revision are those of `now`, and the text says
    from when the earlier ones are. Raises ValueError for sections of another text, or other columns, rows or
    CPUs.
    """
    if (earlier.name, earlier.columns) != (now.name, now.columns):
        raise ValueError(f"{earlier.name} and {now.name} have other columns: take both anew")
    if earlier.about.partition(_WITH)[0] != now.about:
        raise ValueError(f"{earlier.name} was made in another way: take it anew")
    if earlier.machine["cpu"] != now.machine["cpu"]:
        raise ValueError(
            f"{now.name} was taken on {earlier.machine['cpu']}: leave out --add on another machine"
        )
    before = {row[0]: dict(zip(earlier.columns, row, strict=True)) for row in earlier.rows}
    if set(before) != {row[0] for row in now.rows}:
        raise ValueError(f"{now.name} has other rows than before: take it anew")
    rows = []
    for row in now.rows:
        told = _added(before[row[0]], dict(zip(now.columns, row, strict=True)))
        rows.append((*list(told.values())[:-1], met(told)))
    revision = str(earlier.machine["commit"])[:12]
    return replace(
        now,
        rows=tuple(rows),
        seconds=earlier.seconds + now.seconds,
        about=f"{now.about}{_WITH}{earlier.taken_at} UTC, revision {revision}.",
    )


def _added(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> dict[str, Cell]:
    return {name: _cell(name, one, other) for name in other}


def _cell(name: str, one: Mapping[str, Cell], other: Mapping[str, Cell]) -> Cell:
    left, right = one[name], other[name]
    if name in COUNTS:
        return int(left or 0) + int(right or 0)
    if isinstance(left, float) and isinstance(right, float):
        weights = int(one[WEIGHT] or 0), int(other[WEIGHT] or 0)
        return (left * weights[0] + right * weights[1]) / sum(weights)
    return right
