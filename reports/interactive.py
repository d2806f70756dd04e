"""Data for the report's interactive charts, as plain values: the page's own script hands them to plotly."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from reports import formatting as fmt
from reports.palette import INK, MARKER_NAMES, SERIES
from reports.records import CaseResult
from reports.statistics import counted_rounds
from reports.sweep_protocol import alike
from reports.tables import Facet, Row, RunTable
from reports.thinning import share, thinned

_MAX_SHOWN, _MIN_SHOWN = 120, 12  # samples per round in the sample browser
_SHOWN_IN_ALL = 100_000
_WARMUP_SHARE = 6  # of the samples that are shown
_AXES = {"gmacs": "GMACs per inference", "params_m": "parameters, M"}
_FONT = {
    "family": "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Helvetica, Arial, sans-serif",
    "size": 13,
    "color": INK,
}


def cost_chart(table: RunTable) -> dict[str, Any] | None:
    """Latency over GMACs or parameters of every case, one trace per group; None below two such cases.

    Latencies of different protocols mean different things: those of the most cases are shown, the others only
    when the reader asks for them in the legend.
    """
    facets = [facet for facet in table.facets if _costed(facet)]
    if sum(len(_costed(facet)) for facet in facets) < 2:
        return None
    shown = alike(row for facet in facets for row in _costed(facet))[0]
    traces = [
        {**_trace(facet, place, table.unit), "visible": True if _costed(facet)[0] in shown else "legendonly"}
        for place, facet in enumerate(facets)
    ]
    layout = {
        **base_layout(),
        "xaxis": axis(_AXES["gmacs"], log=True),
        "yaxis": axis(f"median latency, {table.unit[1]}", log=True),
    }
    axes = {
        cost: {"title": title, "xs": [[getattr(row, cost) for row in _costed(facet)] for facet in facets]}
        for cost, title in _AXES.items()
    }
    return {"data": traces, "layout": layout, "axes": axes}


def hides_groups(chart: dict[str, Any] | None) -> bool:
    """Does it have groups that are seen only when asked for?"""
    return chart is not None and any(trace["visible"] == "legendonly" for trace in chart["data"])


def base_layout() -> dict[str, Any]:
    """What all charts share: type, colours, margins."""
    return {
        "font": _FONT,
        "margin": {"l": 60, "r": 16, "t": 12, "b": 50},
        "hovermode": "closest",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hoverlabel": {"bgcolor": "white", "bordercolor": "#9aa7b4", "font": _FONT, "align": "left"},
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
    }


def sample_browser(table: RunTable) -> dict[str, Any]:
    """Raw samples of every case, thinned for drawing, in the table's time unit; warm-up apart."""
    rounds = sum(len(row.measurement.rounds) for row in table.rows)
    most = share(_SHOWN_IN_ALL, rounds, most=_MAX_SHOWN, least=_MIN_SHOWN)
    return {
        "unit": table.unit[1],
        "colors": list(SERIES),
        "cases": [
            {
                "label": f"{row.label}, {facet.title}",
                "summary": _one_line(row),
                "rounds": _rounds(row.result, table.unit, most),
            }
            for facet in table.facets
            for row in facet.rows
        ],
    }


def was_thinned(table: RunTable, most: int) -> bool:
    """Does any round hold more samples than are drawn?"""
    return any(r.samples_ns.size > most for row in table.rows for r in row.measurement.rounds)


def axis(title: str, *, log: bool) -> dict[str, Any]:
    """Of a log axis, templates/ticks.js chooses the numbers, by what is in view."""
    shape = "log" if log else "linear"
    return {"title": {"text": title}, "gridcolor": "#e6eaee", "zeroline": False, "type": shape}


def _costed(facet: Facet) -> list[Row]:
    return [row for row in facet.rows if row.gmacs and row.params_m]


def _trace(facet: Facet, place: int, unit: tuple[float, str]) -> dict[str, Any]:
    rows = _costed(facet)
    medians = [row.summary.median_ns / unit[0] for row in rows]
    color = SERIES[place % len(SERIES)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(facet.title),
        "x": [row.gmacs for row in rows],
        "y": medians,
        "text": [_facts(row, facet) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 11,
            "color": color,
            "symbol": [_symbol(row, place) for row in rows],
            "line": {"width": 1.5, "color": color},
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_distance(row.summary.high_ns, row) / unit[0] for row in rows],
            "arrayminus": [-_distance(row.summary.low_ns, row) / unit[0] for row in rows],
            "thickness": 1.2,
            "width": 3,
        },
    }


def _symbol(row: Row, place: int) -> str:
    """One shape per group; hollow where the result carries a flag."""
    name = MARKER_NAMES[place % len(MARKER_NAMES)]
    return f"{name}-open" if row.flags else name


def _distance(bound_ns: float | None, row: Row) -> float:
    return 0.0 if bound_ns is None else bound_ns - row.summary.median_ns


def _facts(row: Row, facet: Facet) -> str:
    """A case's facts for the hover box: plotly reads a little HTML, so names are escaped."""
    lines = [
        f"<b>{escape(row.label)}</b>  {escape(facet.title)}",
        fmt.latency_interval(row.summary.median_ns, row.summary.low_ns, row.summary.high_ns),
        f"{fmt.gmacs(row.gmacs or 0)} GMACs, {fmt.params(row.params_m or 0)}",
        fmt.rate(row.gmacs_per_s or 0),
        f"rank {row.rank}" if row.rank else "not ranked",
        f"{fmt.count(row.summary.rounds, 'round')}, {fmt.count(row.summary.samples, 'sample')}",
    ]
    if row.flags:
        lines.append("flags: " + ", ".join(flag.label for flag in row.flags))
    return "<br>".join(lines)


def _one_line(row: Row) -> str:
    s = row.summary
    outliers = f"{s.mild_outliers} mild and {s.severe_outliers} severe outliers"
    between = (
        f"{fmt.percent(s.between_spread)} between rounds" if s.between_spread is not None else "one round"
    )
    return (
        f"{fmt.latency(s.median_ns, s.half_width)}; spread {fmt.percent(s.within_spread)} inside rounds,"
        f" {between}; {outliers}"
    )


def _rounds(result: CaseResult, unit: tuple[float, str], most: int) -> list[dict[str, Any]]:
    measurement = result.measurement
    rounds = measurement.rounds if measurement else ()
    counted = {id(r) for r in counted_rounds(rounds)}
    return [
        {
            "name": f"round {r.round_index + 1}" + (f", attempt {r.attempt + 1}" if r.attempt else ""),
            "counted": id(r) in counted,
            "samples": _shown(r.samples_ns, r.loop_count * unit[0], most),
            "warmup": _shown(r.warmup_ns, r.loop_count * unit[0], max(3, most // _WARMUP_SHARE)),
        }
        for r in rounds
    ]


def _shown(samples: Any, scale: float, most: int) -> list[float]:
    """Times in the shown unit, to five digits, evenly thinned with the extremes kept."""
    return [float(f"{value:.5g}") for value in thinned(np.asarray(samples) / scale, most)]
