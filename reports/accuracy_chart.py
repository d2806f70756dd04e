"""Data of the interactive accuracy-latency charts, as plain values: templates/accuracy.js draws them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from reports import accuracy
from reports import formatting as fmt
from reports.accuracy import AXIS, Network, described, measured_axis
from reports.evaluations import Evaluation
from reports.interactive import axis, base_layout
from reports.measured_accuracy import groups, share_text
from reports.records import PublishedFigure, PublishedPoint, by_network
from reports.tables import Facet, RunTable

PUBLISHED = "ImageNet-1K, as published"

# A group of the report, the networks of it with an accuracy, and the images that it was measured on here,
# empty where it is published.
Group = tuple[Facet, list[Network], str]


def chart(
    table: RunTable,
    published: Sequence[PublishedFigure],
    points: Sequence[PublishedPoint],
    evaluations: Sequence[Evaluation] = (),
) -> dict[str, Any] | None:
    """Every group with networks of known accuracy, and every setup of others; None without such a group.

    A group is chosen by its settings and by where its accuracies are from, so that cases which may not be
    ranked never share an axis, nor accuracies of different images.
    """
    figures = by_network(published)
    found: list[Group] = [(facet, some, "") for facet, some in accuracy.networks(table, figures)]
    found += [(one.facet, one.networks, one.data) for one in groups(table, evaluations, figures)]
    if not found:
        return None
    styles = accuracy.styles([n for _, some, _ in found for n in some], points)
    places = {family: place for place, family in enumerate(styles)}
    return {
        "families": [
            {"name": name, "color": style.color, "marker": style.marker} for name, style in styles.items()
        ],
        "settings": _settings(found),
        "groups": [_group(one, table.unit, places) for one in found],
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


def _settings(found: Sequence[Group]) -> list[dict[str, Any]]:
    """What tells the groups apart: a name, and the value of each group."""
    facets = [facet for facet, _, _ in found]
    values = {"accuracy": [data or PUBLISHED for _, _, data in found]}
    values |= {name: [facet.settings[name] for facet in facets] for name in facets[0].settings}
    telling = {name: told for name, told in values.items() if len(set(told)) > 1}
    if len(set(zip(*telling.values(), strict=True))) < len(facets):
        # only their protocols tell some of them apart
        telling = {
            **{k: v for k, v in telling.items() if k == "accuracy"},
            "group": [f.title for f in facets],
        }
    return [
        {"name": "resolution" if name == "shape" else name, "values": told} for name, told in telling.items()
    ]


def _group(group: Group, unit: tuple[float, str], places: dict[str, int]) -> dict[str, Any]:
    """`measured`: its accuracies are of other images than the published ones, on an axis of their own."""
    facet, found, data = group
    return {
        "title": f"{facet.title}; accuracy measured on {data}" if data else facet.title,
        "resolution": found[0].row.case.model.resolution,
        "axis": escape(measured_axis(data)).replace("\n", "<br>") if data else AXIS,
        "measured": bool(data),
        "points": [_ours(network, facet, unit, places) for network in found],
    }


def _ours(network: Network, facet: Facet, unit: tuple[float, str], places: dict[str, int]) -> dict[str, Any]:
    row, s = network.row, network.row.summary
    ends = (s.median_ns if end is None else end for end in (s.low_ns, s.high_ns))
    low, high = (_short(end / unit[0]) for end in ends)
    top1_low, top1_high = network.top1_interval or (network.top1, network.top1)
    return {
        "family": places[network.family], "x": _short(s.median_ns / unit[0]), "low": low, "high": high,
        "top1": _short(network.top1), "top1_low": _short(top1_low), "top1_high": _short(top1_high),
        "params_m": row.params_m, "text": _facts(network, facet),
    }  # fmt: skip


def _theirs(point: PublishedPoint, places: dict[str, int]) -> dict[str, Any]:
    ms, error_ms = point.latency.ms, point.latency.error_ms
    return {
        "family": places[point.family], "x": ms, "low": _short(ms - error_ms), "high": _short(ms + error_ms),
        "top1": point.top1, "top1_low": point.top1, "top1_high": point.top1,
        "params_m": point.params_m, "text": _published_facts(point),
    }  # fmt: skip


def _facts(network: Network, facet: Facet) -> str:
    """A network's facts for the hover box: plotly reads a little HTML, so names are escaped."""
    row, s = network.row, network.row.summary
    lines = [
        f"<b>{escape(row.label)}</b>  {escape(facet.title)}",
        f"measured here: {fmt.latency_interval(s.median_ns, s.low_ns, s.high_ns)}",
        _accuracy(network),
        f"family {escape(network.family)}, {_size(row.params_m)}",
        f"{fmt.gmacs(row.gmacs)} GMACs, {fmt.rate(row.gmacs_per_s or 0)}" if row.gmacs else "",
        f"rank {row.rank}, {fmt.count(s.rounds, 'round')}",
        f"flags: {', '.join(flag.label for flag in row.flags)}" if row.flags else "",
    ]
    return "<br>".join(filter(None, lines))


def _accuracy(network: Network) -> str:
    if network.measured is None:
        assert network.figure is not None
        return f"top-1 {network.top1:g} %, published: {escape(network.figure.source)}"
    one = network.measured
    skipped = f", {one.images.skipped} skipped" if one.images.skipped else ""
    return (
        f"top-1 {share_text(one.top1)}, measured here on {escape(one.data)}{skipped}"
        f"<br>evaluated: {escape(one.file.name)} by {escape(one.file.tool)}"
    )


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
