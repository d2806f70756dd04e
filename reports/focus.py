"""One model against all the others: how much longer or shorter each takes, paired by round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports import formatting as fmt
from reports.formatting import listing
from reports.grids import Cell, Grid, Line
from reports.statistics import Ratio, paired_ratio
from reports.tables import Facet, Row, RunTable, fused_facets

_MAX_NAMED = 3


@dataclass(frozen=True)
class Contrast:
    """`other` against the focus within one group; `ratio` is the other's time over the focus's.

    `resolved` where the group's ordering tells the two apart.
    """

    facet: Facet
    other: Row
    ratio: Ratio
    resolved: bool


def sentence(table: RunTable) -> str:
    """What the first others of the plan take against the focus; empty without a focus.

    Ratios of the medians, from the smallest to the largest of the groups; what lies inside the noise is
    called a tie. The grid has the intervals.
    """
    found = list(_contrasts(table))
    if not found:
        return ""
    names = list(dict.fromkeys(contrast.other.label for contrast in found))
    planned = [name for name in _plan_order(table) if name in names][:_MAX_NAMED]
    parts = [_phrase(name, [c for c in found if c.other.label == name]) for name in planned]
    return f"Against {_focus_label(table)}: {listing(parts)}."


def grid(table: RunTable) -> Grid | None:
    """A line per other model, a column per group; None without a focus."""
    found = {(c.other.label, c.facet.title): c for c in _contrasts(table)}
    if not found:
        return None
    titles = [f.title for f in fused_facets(table) if any(title == f.title for _, title in found)]
    names = [name for name in _plan_order(table) if any(name == other for other, _ in found)]
    lines = tuple(
        Line((Cell(name, css="name"), *(_cell(found.get((name, title))) for title in titles)))
        for name in names
    )
    heads = (("Model", False, ""), *((title, True, "time over that of the focus") for title in titles))
    return Grid(f"Time relative to {_focus_label(table)}, paired by round", heads, lines)


def _contrasts(table: RunTable) -> Iterator[Contrast]:
    name = table.info.config.get("focus")
    for facet in fused_facets(table) if name else ():
        focus = next((row for row in facet.ranked if row.case.model.name == name), None)
        for other in facet.ranked if focus else ():
            if focus and other is not focus and (ratio := paired_ratio(other.measurement, focus.measurement)):
                yield Contrast(facet, other, ratio, facet.sign(other, focus) != 0)


def _cell(contrast: Contrast | None) -> Cell:
    if contrast is None:
        return Cell(fmt.MISSING)
    ratio = contrast.ratio
    css = "" if contrast.resolved else "tie"
    text = fmt.ratio_interval(ratio.value, ratio.low, ratio.high)
    return Cell(text, ratio.value, css, "" if contrast.resolved else "a tie: inside the noise")


def _phrase(name: str, contrasts: list[Contrast]) -> str:
    resolved = [contrast.ratio for contrast in contrasts if contrast.resolved]
    ties = [contrast.facet.title for contrast in contrasts if not contrast.resolved]
    if not resolved:
        return f"{name} ties"
    tied = f" and ties at {listing(ties)}" if ties else ""
    return f"{name} takes {_range(resolved)} the time{tied}"


def _range(ratios: list[Ratio]) -> str:
    low, high = (f"{fmt.significant(pick(r.value for r in ratios), 2)}×" for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _focus_label(table: RunTable) -> str:
    name = table.info.config["focus"]
    return next(row.label for row in table.rows if row.case.model.name == name)


def _plan_order(table: RunTable) -> list[str]:
    """Labels in the order of the plan; rows themselves are sorted by latency."""
    order = {case_id: place for place, case_id in enumerate(table.info.case_ids)}
    rows = sorted(table.rows, key=lambda row: order[row.case.id])
    return list(dict.fromkeys(row.label for row in rows))
