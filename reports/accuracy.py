"""Networks of a run whose accuracy is known, and those of others' figures: what an accuracy axis may hold.

An accuracy is ImageNet-1K top-1 as published at the resolution of the case, or measured here on one set of
images (reports/measured_accuracy.py); no axis holds both. A network without one is on no accuracy axis; it is
named instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.evaluations import Evaluation
from reports.formatting import count, listing
from reports.palette import MARKER_NAMES, PALE, SERIES
from reports.records import PublishedFigure, PublishedPoint
from reports.tables import Facet, Row, RunTable, fused_facets

Figures = Mapping[tuple[str, int], PublishedFigure]
AXIS = "ImageNet-1K top-1 as published, %"


@dataclass(frozen=True, slots=True)
class Network:
    """A ranked case and what its accuracy is from: `measured` here where that is given, else the figure."""

    row: Row
    figure: PublishedFigure | None
    measured: Evaluation | None = None

    @property
    def top1(self) -> float:
        """In percent."""
        if self.measured is not None:
            return 100 * self.measured.top1.value
        assert self.figure is not None
        assert self.figure.top1 is not None
        return self.figure.top1

    @property
    def top1_interval(self) -> tuple[float, float] | None:
        """In percent; a published accuracy has none."""
        if self.measured is None:
            return None
        low, high = self.measured.top1.interval
        return 100 * low, 100 * high

    @property
    def family(self) -> str:
        return (self.figure.family if self.figure else "") or self.row.label


@dataclass(frozen=True, slots=True)
class Style:
    """Colour and marker shape of a family; the shape is plotly's name."""

    color: str
    marker: str


def measured_axis(data: str) -> str:
    """The accuracy axis of what was measured on these images, in two lines."""
    return f"top-1 measured here, %\n{data}"


def networks(table: RunTable, figures: Figures) -> list[tuple[Facet, list[Network]]]:
    """The groups with a network of known accuracy, each with its networks, fastest first.

    A result that takes no rank is in doubt and takes no place on the axis either.
    """
    found = [(facet, _known(facet, figures)) for facet in fused_facets(table)]
    return [(facet, some) for facet, some in found if some]


def unknown(table: RunTable, figures: Figures) -> dict[int, list[str]]:
    """By resolution, the measured networks without a published accuracy there."""
    found: dict[int, dict[str, None]] = {}
    for facet in fused_facets(table):
        for row in facet.rows:
            if not row.case.model.is_block and not _accuracy(row, figures):
                found.setdefault(row.case.model.resolution, {})[row.label] = None
    return {side: list(names) for side, names in found.items()}


def in_doubt(table: RunTable, figures: Figures) -> list[str]:
    """Networks of known accuracy whose latency takes no rank, and the group of each."""
    return [
        f"{row.label} ({facet.title})"
        for facet in fused_facets(table)
        for row in facet.rows
        if not row.rank and _accuracy(row, figures)
    ]


def setups(points: Sequence[PublishedPoint]) -> dict[tuple[str, int], list[PublishedPoint]]:
    """Others' points by setup and resolution: what may share an axis. Those with most points first."""
    found: dict[tuple[str, int], list[PublishedPoint]] = {}
    for point in points:
        found.setdefault((point.latency.setup, point.resolution), []).append(point)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def styles(measured: Iterable[Network], points: Iterable[PublishedPoint]) -> dict[str, Style]:
    """A colour and a shape for every family, the same in all charts.

    The families with most networks measured here have a colour of their own; those of others alone are grey.
    """
    here = [family for family, _ in Counter(n.family for n in measured).most_common()]
    families = dict.fromkeys([*here, *(p.family for p in points)])
    colors, shapes = len(SERIES), len(MARKER_NAMES)
    return {
        family: Style(
            SERIES[place % colors] if place < len(here) else PALE,
            MARKER_NAMES[(place + place // colors) % shapes],
        )
        for place, family in enumerate(families)
    }


def described(points: Sequence[PublishedPoint]) -> str:
    """`34 networks, 31 of them read off a plot, with the reading error. Source: ...` of one setup."""
    read = sum(bool(p.latency.error) for p in points)
    plot = f", {read} of them read off a plot, with the reading error" if read else ""
    sources = listing(list(dict.fromkeys(p.latency.source for p in points)))
    return f"{count(len(points), 'network')}{plot}. Source: {sources}"


def frontier(xs: Sequence[float], ys: Sequence[float]) -> list[int]:
    """Indices that no other point beats on both axes (small x, large y), by increasing x."""
    best: list[int] = []
    for i in sorted(range(len(xs)), key=lambda i: (xs[i], -ys[i])):
        if not best or ys[i] > ys[best[-1]]:
            best.append(i)
    return best


def _known(facet: Facet, figures: Figures) -> list[Network]:
    return [Network(row, found) for row in facet.ranked if (found := _accuracy(row, figures))]


def _accuracy(row: Row, figures: Figures) -> PublishedFigure | None:
    found = figures.get((row.case.model.name, row.case.model.resolution))
    return found if found and found.top1 is not None else None
