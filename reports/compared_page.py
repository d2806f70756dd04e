"""A comparison as a section of the HTML report: a figure of intervals around 1, and the table in full."""

from __future__ import annotations

import math

import matplotlib
from matplotlib.ticker import MaxNLocator

from reports import drawing as d
from reports import formatting as fmt
from reports import palette as colour
from reports.compared import Compared, ComparedCase
from reports.compared_text import left_out_lines, ratio_text
from reports.drawing import Drawing
from reports.figures import dot, dot_axes, pad_x
from reports.flags import describe
from reports.grids import Cell, Grid, Line
from reports.sections import Section

_COLORS = {"faster": colour.BLUE, "slower": colour.VERMILLION, "regressed": colour.VERMILLION}
_CSS = {"regressed": "bad", "slower": "bad"}
_PER_PANEL = 24


def section(compared: Compared, *, title: str, verdict: str) -> Section:
    """`verdict` is the sentence that the whole table comes to."""
    return Section(
        anchor="comparison",
        short="Comparison",
        title=title,
        paragraphs=(verdict, compared.question),
        drawings=panels(compared),
        grids=(_grid(compared),),
        notes=(f"A: {compared.a.title}. B: {compared.b.title}.", *compared.notes, *left_out_lines(compared)),
    )


def panels(compared: Compared) -> tuple[Drawing, ...]:
    """Ratios with their 95 % intervals, and the band around 1; one axis for all panels."""
    rows = compared.cases
    groups = [rows[start : start + _PER_PANEL] for start in range(0, len(rows), _PER_PANEL)]
    with matplotlib.rc_context(d.style()):
        return tuple(_panel(compared, group, place, len(groups)) for place, group in enumerate(groups))


def _panel(compared: Compared, rows: tuple[ComparedCase, ...], place: int, count: int) -> Drawing:
    name = f"comparison-{place}"
    names, shared = _short_names(rows)
    figure, axes = dot_axes(names, [ratio_text(row) for row in rows], "time of A / time of B")
    low, high = compared.band
    axes.axvspan(low, high, color=colour.GRID, alpha=0.6, lw=0, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.axvline(1.0, color=colour.INK, lw=0.8, zorder=1)
    for y, row in enumerate(rows):
        ratio = row.ratio
        color = _COLORS.get(row.state, colour.MUTED)
        dot(axes, y, ratio.value, ratio.low, ratio.high, color=color, hollow=row.state in _OPEN)
    pad_x(axes, [low, high, *(v for row in compared.cases for v in _ends(row))])
    alt = "; ".join(f"{row.label} {ratio_text(row)}, {row.state}" for row in rows)
    part = f" ({place + 1} of {count})" if count > 1 else ""
    return Drawing(
        name, f"Ratios{part}", f"Time of A over that of B: {alt}.", d.to_svg(figure, name), caption=shared
    )


_OPEN = frozenset({"inconclusive", "undecided"})


def _short_names(rows: tuple[ComparedCase, ...]) -> tuple[list[str], str]:
    """Labels without the words that all of them end with, and those words."""
    words = [row.label.split() for row in rows]
    shared = 0
    while (
        len(words) > 1
        and all(len(w) > shared + 1 for w in words)
        and len({w[-1 - shared] for w in words}) == 1
    ):
        shared += 1
    names = [" ".join(w[: len(w) - shared]).removeprefix("block/") for w in words]
    return names, " ".join(words[0][len(words[0]) - shared :]) if shared else ""


def _ends(row: ComparedCase) -> list[float]:
    ratio = row.ratio
    return [v for v in (ratio.low, ratio.value, ratio.high) if v is not None and math.isfinite(v)]


def _grid(compared: Compared) -> Grid:
    heads = (
        ("Case", False, ""),
        ("A", True, "median and half width of its 95 % interval"),
        ("B", True, "median and half width of its 95 % interval"),
        (
            "A / B [95 %]",
            True,
            "ratio of medians" + (", paired by round" if compared.paired else ", unpaired"),
        ),
        ("Rounds", True, "pairs of rounds, or the rounds of the side that has fewer"),
        ("p", True, "adjusted for the number of cases"),
        ("Verdict", False, ""),
        ("Flags", False, ""),
    )
    return Grid("All compared cases", heads, tuple(_grid_line(row) for row in compared.cases))


def _grid_line(row: ComparedCase) -> Line:
    p = row.comparison.p_value
    said = f"{row.state}: {row.advice}" if row.advice else row.state
    return Line(
        (
            Cell(row.label, css="name"),
            Cell(fmt.latency(row.a.median_ns, row.a.half_width), row.a.median_ns),
            Cell(fmt.latency(row.b.median_ns, row.b.half_width), row.b.median_ns),
            Cell(ratio_text(row), row.ratio.value),
            Cell(str(row.ratio.pairs), row.ratio.pairs),
            Cell(fmt.MISSING if p is None else fmt.probability(p), p),
            Cell(said, row.state, _CSS.get(row.state, "tie" if row.state in _OPEN else "")),
            Cell(", ".join(describe(name).label for name in row.flags)),
        )
    )
