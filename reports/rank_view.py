"""Rank agreement as the page shows it: a panel per group and one table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.rank_agreement import MIN_CASES_FOR_INTERVAL, Agreement, agreements
from reports.records import PublishedFigure, by_network
from reports.tables import Facet, RunTable, fused_facets

if TYPE_CHECKING:
    from reports.drawing import Drawing

MAX_PANELS = 12
NOTE = (
    "τ is 1 where the predictor puts the cases in the order of the latencies measured here, 0 where it says"
    " nothing about it, −1 where the order is reversed; beside each dot stand τ and the number of cases."
    " Differences inside the noise, or inside the reading error of a plot, are ties. The 95 % interval speaks"
    f" of other cases like these, and takes {MIN_CASES_FOR_INTERVAL} of them or more, each for itself: with"
    " families whose networks resemble each other, or many ties, it is too narrow. A hollow mark compares"
    " with latencies that others published on another device: ranks, not times."
)


def section(table: RunTable, published: Sequence[PublishedFigure]) -> dict[str, Any]:
    """For the template; `rank_grid` is None where no group has three cases to predict."""
    figures = by_network(published)
    found = [(f, some) for f in fused_facets(table) if (some := agreements(f, figures))]
    return {
        "rank_panels": [
            panel(some, facet.title, f"rank-{place}")
            for place, (facet, some) in enumerate(found[:MAX_PANELS])
        ],
        "rank_grid": grid(found) if found else None,
        "rank_note": NOTE,
        "rank_rest": len(found[MAX_PANELS:]),
    }


def panel(found: Sequence[Agreement], title: str, name: str) -> Drawing:
    """A dot per predictor with its interval, where it has one."""
    import matplotlib

    from reports import drawing as d
    from reports import palette as colour
    from reports.drawing import Drawing
    from reports.figures import dot, dot_axes

    names = _distinct(d.short([one.predictor for one in found], 23))
    notes = [f"{_tau(one).partition(' ')[0]} ({one.cases})" for one in found]
    with matplotlib.rc_context(d.style()):
        figure, axes = dot_axes(names, notes, "Kendall's τ with our latencies")
        for y, one in enumerate(found):
            if one.tau is not None:
                dot(axes, y, one.tau, one.low, one.high, color=colour.BLUE, hollow=one.published)
        axes.set_xlim(-1.08, 1.08)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "", "0", "", "1"])
        axes.axvline(0.0, color=colour.MUTED, lw=0.7)
        alt = "; ".join(f"{n} {_tau(one)}, {one.cases} cases" for n, one in zip(names, found, strict=True))
        return Drawing(name, title, f"Rank agreement at {title}: {alt}.", d.to_svg(figure, name))


def grid(found: Sequence[tuple[Facet, Sequence[Agreement]]]) -> Grid:
    heads = (
        ("Group", False, ""),
        ("Predictor", False, ""),
        ("Cases", True, "ranked here and known to the predictor"),
        ("Kendall's τ [95 %]", True, "tau-b"),
        ("Wrong way round", True, "pairs that are measured in the other order, beyond the noise"),
        ("Published for", False, "device, tool and setting of a published latency"),
    )
    lines = tuple(
        Line(
            (
                Cell(facet.title),
                Cell(one.predictor, css="name"),
                Cell(str(one.cases), one.cases),
                Cell(_tau(one), one.tau),
                Cell(f"{one.contrary} of {one.pairs}", one.contrary / one.pairs),
                Cell(one.setup or fmt.MISSING),
            )
        )
        for facet, some in found
        for one in some
    )
    return Grid("What predicts the order of latency", heads, lines)


def _tau(one: Agreement) -> str:
    """`0.62 [0.31, 0.81]`; the count stands beside it, so a bare tau is no claim."""
    if one.tau is None:
        return fmt.MISSING
    ends = f" [{one.low:.2f}, {one.high:.2f}]" if one.low is not None else ""
    return f"{one.tau:.2f}{ends}".replace("-", "−")


def _distinct(names: Sequence[str]) -> list[str]:
    """Setups of one device are counted: the table below has them in full, in this order."""
    uses, seen = Counter(names), Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if uses[name] > 1 else name)
    return numbered
