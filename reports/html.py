"""The report: one HTML file that needs nothing else, opens from disk and cannot talk to a network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import (
    accuracy_chart,
    case_table,
    device_section,
    evaluated_section,
    findings,
    focus,
    interactive,
    layers,
    published_view,
    rank_view,
    untimed,
    view,
)
from reports import formatting as fmt
from reports.files import write_text
from reports.flags import is_simulated
from reports.grids import facts
from reports.headline import headline
from reports.machine_sections import machine_sections
from reports.matched_run import matched_sections
from reports.measured_accuracy import newest
from reports.palette import MARKER_SIGNS
from reports.records import PublishedFigure, PublishedPoint, StoredRun
from reports.sections import Section
from reports.tables import RunTable, build, fused_facets

_COSTS = {"gmacs": "GMACs", "params_m": "Parameters"}


def write_report(
    stored_run: StoredRun,
    path: Path,
    *,
    published: Sequence[PublishedFigure] | None = None,
    points: Sequence[PublishedPoint] = (),
    unread: Sequence[str] = (),
    first: Sequence[Section] = (),
) -> Path:
    """Write the report of a run and return its path.

    `published` are others' figures for the run's models, shown in a section of their own, and `points` all of
    those others' networks, to redraw their figures; `unread` are rows of others' figures that cannot be true,
    which stand among the failures; `first` are sections that come before the run's. The same input gives the
    same bytes. Raises reports.files.OutputError where the file cannot be written.
    """
    path = Path(path)
    write_text(path, render(stored_run, published=published, points=points, unread=unread, first=first))
    return path


def render(
    stored_run: StoredRun,
    *,
    published: Sequence[PublishedFigure] | None = None,
    points: Sequence[PublishedPoint] = (),
    unread: Sequence[str] = (),
    first: Sequence[Section] = (),
) -> str:
    """The report as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports", "templates"), autoescape=True, undefined=StrictUndefined
    )
    table = build(stored_run)
    classified = [point for point in points if not point.metric]
    chart = accuracy_chart.chart(table, published or (), classified, newest(stored_run.evaluations))
    scripts = _scripts(*(["accuracy.js"] if chart else []))
    cost = interactive.cost_chart(table)
    page = {
        **_summary(table),
        **view.doubts(table, unread),
        **_cost(table, cost),
        **_untimed(table, published),
        **device_section.section(table),
        **_layers(table),
        "machine_sections": machine_sections(table),
        **rank_view.section(table, published or ()),
        **published_view.section(table, published or (), points),
        **evaluated_section.page(stored_run, table, published or ()),
        "accuracy_chart": chart,
        "accuracy_data": _json(chart),
        "marks": MARKER_SIGNS,
        **_details(table),
        "css": _asset("report.css"),
        "scripts": scripts,
        "policy": content_security_policy(scripts),
        "data": _embedded(table, cost),
        "first": [*first, *matched_sections(stored_run)],
    }
    page["sections"] = _sections(page)
    return environment.get_template("report.html.j2").render(page)


def content_security_policy(scripts: Sequence[str]) -> str:
    """Nothing from anywhere; only these scripts run. plotly styles its charts inline, hence style-src."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _summary(table: RunTable) -> dict[str, Any]:
    from reports import figures

    info = table.info
    facets = fused_facets(table)
    return {
        "table": table,
        "title": f"{info.suite}: latency report, run {info.run_id}",
        "file_stem": fmt.slug(f"{info.suite}-run-{info.run_id}") or "report",
        "started": fmt.moment(info.started_at_ns),
        "headline": headline(table),
        "context": _context(table),
        "key_facts": view.key_facts(table),
        "simulated": _simulated(table),
        "answers": view.answers(table),
        "focus": focus.grid(table),
        "focus_sentence": focus.sentence(table),
        "unranked": any(row.serious for row in table.rows),
        "axis_note": "All panels share one axis." if figures.shares_axis(facets, table.unit) else "",
        "latency_panels": figures.latency_panels(facets, table.unit),
        "results": None if table.only_untimed else case_table.results(table),
        "filters": case_table.filters(table),
        "flag_lines": view.flag_lines(table),
    }


def _cost(table: RunTable, chart: dict[str, Any] | None) -> dict[str, Any]:
    """Where GMACs and parameters mislead, over all groups; the worst inversions by GMACs are named."""
    from reports import figures, scatter

    facets = fused_facets(table)
    found = {
        (facet.title, cost): agreement
        for facet in facets
        for cost in _COSTS
        if (agreement := findings.cost_agreement(facet, cost))
    }
    by_cost = {
        cost: [(f, found[f.title, cost]) for f in facets if (f.title, cost) in found] for cost in _COSTS
    }
    return {
        "agreements": [
            findings.describe_agreements(by_cost[c], name) for c, name in _COSTS.items() if by_cost[c]
        ],
        "inversions": [
            f"At {facet.title}, {findings.describe_inversion(inversion, 'GMACs')}"
            for facet, inversion in findings.worst_inversions(by_cost["gmacs"])
        ],
        "cost_chart": chart is not None,
        "cost_chart_hides": interactive.hides_groups(chart),
        "cost_panels": scatter.cost_panels(facets, found, table.unit),
        "rate_panels": figures.rate_panels(facets),
    }


def _untimed(table: RunTable, published: Sequence[PublishedFigure] | None) -> dict[str, Any]:
    """What is built and waits for its device, with others' latencies in a column of their own."""
    found = untimed.rows(table, published)
    return {
        "untimed": untimed.grid(found),
        "untimed_summary": untimed.summary(table),
        "untimed_advice": [part for text in untimed.advice(table) for part in untimed.advice_parts(text)],
        "untimed_sources": untimed.sources(found),
    }


def _layers(table: RunTable) -> dict[str, Any]:
    found = layers.profiles(table)
    return {
        "layers": layers.kinds_grid(found),
        "layer_notes": layers.notes(table, found),
        "layer_details": [(one.label, layers.sentence(one), layers.detail_grids(one)) for _, one in found],
    }


def _details(table: RunTable) -> dict[str, Any]:
    from reports import figures

    ledger = view.ledger(table)
    share = view.harness_share(table)
    return {
        "sample_panels": figures.sample_panels(table.facets),
        "thinned": interactive.was_thinned(table, figures.drawn_per_round(table.facets)),
        "parity": view.parity(table),
        "parity_summary": view.parity_summary(table),
        "parity_failed": any(flag.name == "parity_failed" for flag in table.flags),
        "environment": facts("As the program found it", table.info.environment),
        "protocols": view.protocols(table),
        "ledger_panel": figures.ledger_panel(ledger) if ledger else None,
        "ledger_text": f"The harness took {fmt.percent(share)} of the wall time: everything but conversion,"
        " warm-up and timed work." if share is not None else "",
        "revision": _revision(table),
    }  # fmt: skip


def _revision(table: RunTable) -> str:
    """`0123456789ab with local changes`, or nothing where the environment does not tell."""
    revision = table.info.environment.get("revision")
    if not isinstance(revision, dict) or not revision.get("commit"):
        return ""
    return f"{str(revision['commit'])[:12]}{' with local changes' if revision.get('dirty') else ''}"


def _context(table: RunTable) -> str:
    """One line under the headline: the common settings, the runtime and the processor."""
    runtimes = list(dict.fromkeys(facet.protocol.runtime for facet in table.facets))
    common = [words for words in table.common if not any(text.startswith(words) for text in runtimes)]
    cpu = table.info.environment.get("cpu")
    model = cpu.get("model", "") if isinstance(cpu, dict) else ""
    unfinished = "not finished" if table.info.finished_at_ns is None else ""
    return " · ".join(filter(None, [*common, *runtimes[:2], model, unfinished]))


def _simulated(table: RunTable) -> str:
    rows = [row for row in table.rows if is_simulated(row.result)]
    if not rows:
        return ""
    which = "All results" if len(rows) == len(table.rows) else f"{len(rows)} of {len(table.rows)} results"
    return f"{which} on this page come from a simulated backend, not from a device. They are not latencies."


def _sections(page: dict[str, Any]) -> list[tuple[str, str]]:
    """(anchor, text) of the sections that this report has."""
    wanted = (
        *((section.anchor, section.short, True) for section in page["first"]),
        ("latency", "Latency", bool(page["table"].rows)),
        ("results", "All results", page["results"] is not None),
        ("built", "Built, not timed", page["untimed"] is not None),
        ("devices", "Devices", bool(page["devices"])),
        ("layers", "Layers", page["layers"] is not None),
        *((section.anchor, section.short, True) for section in page["machine_sections"]),
        ("cost", "FLOPs", bool(page["cost_chart"] or page["cost_panels"])),
        ("rank", "Ranks", page["rank_grid"] is not None),
        ("rate", "Rate", bool(page["rate_panels"])),
        ("accuracy", "Accuracy", bool(page["published"] or page["accuracy_chart"])),
        *((section.anchor, section.short, True) for section in page["evaluated"]),
        ("samples", "Samples", bool(page["table"].rows)),
        ("parity", "Parity", True),
        ("conditions", "Conditions", True),
        ("method", "How to read", True),
    )
    return [(anchor, text) for anchor, text, present in wanted if present]


def _embedded(table: RunTable, cost: dict[str, Any] | None) -> str:
    """The charts' data as JSON."""
    data: dict[str, Any] = {"samples": interactive.sample_browser(table)}
    if cost:
        data["cost"] = cost
    data["cost_layout"] = interactive.base_layout()
    return _json(data)


def _json(data: dict[str, Any] | None) -> str:
    """Text that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _scripts(*more: str) -> list[str]:
    """plotly's own bundle, as its package ships it, and the page's scripts."""
    from plotly.offline import get_plotlyjs

    return [str(get_plotlyjs()), _asset("ticks.js"), _asset("report.js"), *(_asset(name) for name in more)]


def _asset(name: str) -> str:
    from importlib.resources import files

    return (files("reports.templates") / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
