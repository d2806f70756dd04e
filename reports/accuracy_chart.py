"""Data of the interactive accuracy-latency charts, as plain values: templates/accuracy.js draws them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from reports import accuracy
from reports import formatting as fmt
from reports.accuracy import AXIS, Network, described
from reports.interactive import axis, base_layout
from reports.records import PublishedFigure, PublishedPoint, by_network
from reports.tables import Facet, RunTable


def chart(
    table: RunTable, published: Sequence[PublishedFigure], points: Sequence[PublishedPoint]
) -> dict[str, Any] | None:
    """Every group with networks of known accuracy, and every setup of others; None without such a group.

    A group is chosen by its settings, so that cases which may not be ranked never share an axis.
    """
    found = accuracy.networks(table, by_network(published))
    if not found:
        return None
    styles = accuracy.styles([n for _, some in found for n in some], points)
    places = {family: place for place, family in enumerate(styles)}
    return {
        "families": [
            {"name": name, "color": style.color, "marker": style.marker} for name, style in styles.items()
        ],
        "settings": _settings([facet for facet, _ in found]),
        "groups": [_group(facet, some, table.unit, places) for facet, some in found],
        "setups": [
            {
                "name": f"{setup}, {side}x{side}",
                "resolution": side,
                "about": described(some),
                "points": [_theirs(p, places) for p in some],
            }
            for (setup, side), some in accuracy.setups(points).items()
        ],
        "titles": {
            "measured": f"median latency measured here, {table.unit[1]}",
            "published": "latency as published, ms",
            "top1": AXIS,
        },
        "layout": base_layout(),
        "axes": {"log": axis("", log=True), "linear": axis("", log=False)},
    }


def _settings(facets: Sequence[Facet]) -> list[dict[str, Any]]:
    """What tells the groups apart: a name, and the value of each group."""
    values = {name: [facet.settings[name] for facet in facets] for name in facets[0].settings}
    telling = {name: told for name, told in values.items() if len(set(told)) > 1}
    if len(set(zip(*telling.values(), strict=True))) < len(facets):
        telling = {"group": [facet.title for facet in facets]}  # only their protocols tell some of them apart
    return [
        {"name": "resolution" if name == "shape" else name, "values": told} for name, told in telling.items()
    ]


def _group(
    facet: Facet, found: Sequence[Network], unit: tuple[float, str], places: dict[str, int]
) -> dict[str, Any]:
    return {
        "title": facet.title,
        "resolution": found[0].figure.resolution,
        "points": [_ours(network, facet, unit, places) for network in found],
    }


def _ours(network: Network, facet: Facet, unit: tuple[float, str], places: dict[str, int]) -> dict[str, Any]:
    row, s = network.row, network.row.summary
    ends = (s.median_ns if end is None else end for end in (s.low_ns, s.high_ns))
    low, high = (_short(end / unit[0]) for end in ends)
    return {
        "family": places[network.family], "x": _short(s.median_ns / unit[0]), "low": low, "high": high,
        "top1": network.top1, "params_m": row.params_m, "text": _facts(network, facet),
    }  # fmt: skip


def _theirs(point: PublishedPoint, places: dict[str, int]) -> dict[str, Any]:
    ms, error_ms = point.latency.ms, point.latency.error_ms
    return {
        "family": places[point.family], "x": ms, "low": _short(ms - error_ms), "high": _short(ms + error_ms),
        "top1": point.top1, "params_m": point.params_m, "text": _published_facts(point),
    }  # fmt: skip


def _facts(network: Network, facet: Facet) -> str:
    """A network's facts for the hover box: plotly reads a little HTML, so names are escaped."""
    row, s, figure = network.row, network.row.summary, network.figure
    lines = [
        f"<b>{escape(row.label)}</b>  {escape(facet.title)}",
        f"measured here: {fmt.latency_interval(s.median_ns, s.low_ns, s.high_ns)}",
        f"top-1 {network.top1:g} %, published: {escape(figure.source)}",
        f"family {escape(network.family)}, {_size(row.params_m)}",
        f"{fmt.gmacs(row.gmacs)} GMACs, {fmt.rate(row.gmacs_per_s or 0)}" if row.gmacs else "",
        f"rank {row.rank}, {fmt.count(s.rounds, 'round')}",
        f"flags: {', '.join(flag.label for flag in row.flags)}" if row.flags else "",
    ]
    return "<br>".join(filter(None, lines))


def _published_facts(point: PublishedPoint) -> str:
    one = point.latency
    lines = [
        f"<b>{escape(point.network)}</b>  published, not measured here",
        f"{fmt.published(one.ms)}{f', read off a plot, {escape(one.error)}' if one.error else ''}",
        escape(f"{one.runtime}: {one.setup}"),
        f"top-1 {point.top1:g} %, {escape(point.setting)}",
        f"family {escape(point.family)}, {_size(point.params_m)}",
        f"source: {escape(one.source)}",
        f"measured in this run as {escape(point.model)}" if point.model else "",
    ]
    return "<br>".join(filter(None, lines))


def _size(params_m: float | None) -> str:
    return fmt.params(params_m) if params_m else "parameters unknown"


def _short(value: float) -> float:
    return float(f"{value:.5g}")
