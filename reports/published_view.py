"""What others published, beside our latencies: a table, and their accuracy over our time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.records import PublishedFigure
from reports.tables import Facet, Row, RunTable, fused_facets


def section(table: RunTable, published: Sequence[PublishedFigure]) -> dict[str, Any]:
    """Accuracy over our latency per group, and the authors' own figures in a table."""
    from reports import scatter

    figures = {(f.model, f.resolution): f for f in published}
    facets = fused_facets(table)
    matched = [
        (row, facet, figures[row.case.model.name, row.case.model.resolution])
        for facet in facets
        for row in facet.rows
        if (row.case.model.name, row.case.model.resolution) in figures
    ]
    if not matched:
        return {"published": None}
    panels = []
    for place, facet in enumerate(facets):
        points = [(r, f.top1) for r, where, f in matched if where is facet and f.top1 and r.rank]
        if len(points) > 1:
            panels.append(scatter.accuracy_panel(points, facet.title, f"accuracy-{place}", table.unit))
    return {"published": _grid(matched), "accuracy_panels": panels}


def _grid(matched: Sequence[tuple[Row, Facet, PublishedFigure]]) -> Grid:
    heads = (
        ("Model", False, ""),
        ("Group", False, ""),
        ("Measured here", True, ""),
        ("Top-1, %", True, "published"),
        ("Published latency", False, "on the authors' device"),
        ("Source", False, ""),
    )
    lines = tuple(
        Line(
            (
                Cell(row.label, css="name"),
                Cell(facet.title),
                Cell(fmt.latency(row.summary.median_ns, row.summary.half_width)),
                Cell(fmt.MISSING if figure.top1 is None else f"{figure.top1:.1f}"),
                Cell(
                    "; ".join(
                        f"{'≈ ' * bool(one.error)}{fmt.published(one.ms)} ({one.setup})"
                        for one in figure.latencies
                    )
                    or fmt.MISSING
                ),
                Cell("; ".join(_sources(figure))),
            )
        )
        for row, facet, figure in matched
    )
    return Grid("Beside what was published", heads, lines)


def _sources(figure: PublishedFigure) -> list[str]:
    """Of the accuracy, and of every latency with how exactly it could be read."""
    read = [f"{one.source}{f', read off a plot {one.error}' * bool(one.error)}" for one in figure.latencies]
    return list(dict.fromkeys(filter(None, [figure.source, *read])))
