"""What others published, beside our latencies: their accuracy over our time, their own figures, a table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports import accuracy
from reports import formatting as fmt
from reports.accuracy import Figures, Network
from reports.grids import Cell, Grid, Line
from reports.records import PublishedFigure, PublishedLatency, PublishedPoint, by_network
from reports.tables import Facet, Row, RunTable, fused_facets

if TYPE_CHECKING:
    from reports.drawing import Drawing

MAX_MEASURED_PANELS = 12
MAX_PUBLISHED_PANELS = 4
MAX_GROUPS_NAMED = 3
_MIN_POINTS = 3  # of others' networks, for a figure of their own


def section(
    table: RunTable, published: Sequence[PublishedFigure], points: Sequence[PublishedPoint]
) -> dict[str, Any]:
    """For the template; `published` is None where nothing is published about any network of the run.

    Points of another measure than ImageNet top-1 are drawn apart, below all others.
    """
    classified = [point for point in points if not point.metric]
    figures = by_network(published)
    matched: dict[tuple[str, int], list[tuple[Row, Facet]]] = {}
    for facet in fused_facets(table):
        for row in facet.rows:
            if (key := (row.case.model.name, row.case.model.resolution)) in figures:
                matched.setdefault(key, []).append((row, facet))
    if not matched:
        return {
            "published": None,
            "accuracy_panels": [],
            "backbone_panels": [],
            "accuracy_rest": 0,
            "accuracy_missing": [],
        }
    found = accuracy.networks(table, figures)
    return {
        "published": _grid([(figures[key], rows) for key, rows in matched.items()]),
        "accuracy_panels": _panels(found, classified, table.unit),
        "backbone_panels": _backbones(found, points),
        "accuracy_rest": len(found[MAX_MEASURED_PANELS:]),
        "accuracy_missing": _missing(table, figures),
    }


def _panels(
    found: Sequence[tuple[Facet, list[Network]]], points: Sequence[PublishedPoint], unit: tuple[float, str]
) -> list[Drawing]:
    """By resolution, others' figures in turns with ours; others' alone are no part of a run's report."""
    from reports import accuracy_plots

    styles = accuracy.styles([network for _, some in found for network in some], points)
    ours: dict[int, list[Drawing]] = {}
    for place, (facet, some) in enumerate(found[:MAX_MEASURED_PANELS]):
        drawing = accuracy_plots.measured_panel(facet, some, unit, styles, f"accuracy-{place}")
        ours.setdefault(some[0].row.case.model.resolution, []).append(drawing)
    setups = [
        (side, some)
        for (_, side), some in accuracy.setups(points).items()
        if len(some) >= _MIN_POINTS and side in ours
    ]
    theirs: dict[int, list[Drawing]] = {}
    for place, (side, points_there) in enumerate(setups[:MAX_PUBLISHED_PANELS]):
        drawing = accuracy_plots.published_panel(points_there, styles, f"published-{place}")
        theirs.setdefault(side, []).append(drawing)
    return [
        drawing
        for side, some_of_ours in ours.items()
        for pair in itertools.zip_longest(some_of_ours, theirs.get(side, ()))
        for drawing in pair
        if drawing
    ]


def _backbones(
    found: Sequence[tuple[Facet, list[Network]]], points: Sequence[PublishedPoint]
) -> list[Drawing]:
    """Others' figures of other tasks, where their networks are backbones: one for each measure and setup."""
    from reports import accuracy_plots

    styles = accuracy.styles([network for _, some in found for network in some], points)
    groups: dict[tuple[str, str], list[PublishedPoint]] = {}
    for point in points:
        if point.metric:
            groups.setdefault((point.metric, point.latency.setup), []).append(point)
    drawn = [some for some in groups.values() if len(some) >= _MIN_POINTS and any(p.model for p in some)]
    most = {setup: max(len(some) for (_, one), some in groups.items() if one == setup) for _, setup in groups}
    drawn.sort(key=lambda some: -most[some[0].latency.setup])  # measures of one setup side by side
    return [
        accuracy_plots.published_panel(some, styles, f"backbone-{place}")
        for place, some in enumerate(drawn[:MAX_PUBLISHED_PANELS])
    ]


def _missing(table: RunTable, figures: Figures) -> list[str]:
    """A sentence for each reason why a measured network is on no accuracy axis."""
    told = []
    if unknown := accuracy.unknown(table, figures):
        told.append(
            "On no accuracy axis, as no ImageNet-1K top-1 at that resolution is known of them: "
            + "; ".join(f"at {side}x{side} {fmt.listing(names)}" for side, names in unknown.items())
            + "."
        )
    if doubted := accuracy.in_doubt(table, figures):
        told.append(f"On no axis, as their latency is in doubt: {fmt.listing(doubted)}.")
    return told


def _grid(matched: Sequence[tuple[PublishedFigure, Sequence[tuple[Row, Facet]]]]) -> Grid:
    """A line per network and resolution."""
    heads = (
        ("Model", False, ""),
        ("Resolution", True, ""),
        ("Measured here", False, "medians, by group"),
        ("Top-1, %", True, "published"),
        ("Published latency", False, "on the authors' device"),
        ("Source", False, ""),
    )
    lines = tuple(
        Line(
            (
                Cell(rows[0][0].label, css="name"),
                Cell(str(figure.resolution)),
                Cell(_measured(rows)),
                Cell(fmt.MISSING if figure.top1 is None else f"{figure.top1:.1f}"),
                Cell("; ".join(_latency(one) for one in figure.latencies) or fmt.MISSING),
                Cell("; ".join(_sources(figure))),
            )
        )
        for figure, rows in matched
    )
    return Grid("Beside what was published", heads, lines)


def _measured(rows: Sequence[tuple[Row, Facet]]) -> str:
    shown = [
        f"{fmt.latency(row.summary.median_ns, row.summary.half_width)} ({facet.title})"
        for row, facet in rows[:MAX_GROUPS_NAMED]
    ]
    more = len(rows) - len(shown)
    return "; ".join([*shown, f"{more} more"] if more else shown)


def _latency(one: PublishedLatency) -> str:
    return f"{'≈ ' if one.error else ''}{fmt.published(one.ms)} ({one.setup})"


def _sources(figure: PublishedFigure) -> list[str]:
    """Of the accuracy, and of every latency with how exactly it could be read."""
    read = [f"{one.source}{f', read off a plot {one.error}' * bool(one.error)}" for one in figure.latencies]
    return list(dict.fromkeys(filter(None, [figure.source, *read])))
