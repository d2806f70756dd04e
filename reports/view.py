"""A run as the tables and sentences of the HTML page: plain text cells, nothing drawn and no markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from converters.artifact import Artifact, Step
from models.spec import forms_left_out
from reports import agreement, findings
from reports import formatting as fmt
from reports.failure_groups import FailureGroup, grouped
from reports.flags import Flag
from reports.grids import Cell, Grid, Line, facts
from reports.records import CaseResult
from reports.tables import Facet, RunTable, fused_facets

# the parts of a session's wall time, in the order in which a suite goes through them
LEDGER = {
    "conversion_ns": "conversion",
    "start_ns": "process start",
    "import_ns": "runtime import",
    "load_ns": "model loading",
    "verify_ns": "output checks",
    "warmup_ns": "warm-up",
    "timed_ns": "timed work",
    "parent_ns": "parent",
}
_MAX_PARITY_TABLES = 50
_ASKED_FOR = ("conversion_ns", "warmup_ns", "timed_ns", "devices_ns", "search_ns", "training_ns")


def answers(table: RunTable) -> Grid:
    """One line per group: who is fastest, by how much, who does most work per second, what FLOPs predict."""
    heads = (
        ("Group", False, ""),
        ("Fastest", False, "ties share the first place"),
        ("Median [95 % interval]", False, "across rounds, each a fresh process"),
        ("Lead over the next", False, "ratio of medians, paired by round, with its 95 % interval"),
        ("Highest rate", False, "achieved multiply-accumulates per second"),
        (
            "τ of GMACs",
            True,
            "Kendall's rank correlation of GMACs and latency: 1 when GMACs predict the order",
        ),
    )
    lines = tuple(_answer(facet) for facet in fused_facets(table))
    return Grid("The fastest of every group of comparable cases", heads, lines)


def key_facts(table: RunTable) -> list[tuple[str, str]]:
    """(value, label) pairs that say how much the page can be trusted at a glance."""
    facts = [(f"{len(table.rows)} of {table.planned}", "cases measured")]
    if table.untimed:
        facts.append((str(len(table.untimed)), "built, not timed"))
    widths = sorted(row.summary.half_width for row in table.rows)
    if widths:
        facts.append((fmt.plus_minus(widths[len(widths) // 2]), "typical 95 % interval"))
        facts.append((str(sum(bool(row.flags) for row in table.rows)), "results with a flag"))
        facts.append(
            (f"{sum(row.summary.samples for row in table.rows):,}".replace(",", " "), "samples kept")
        )
    if table.sessions:
        facts.append((fmt.span(sum(s.wall_ns for s in table.sessions)), "wall time"))
    return facts


def parity(table: RunTable) -> list[Grid]:
    """The parity ledger: one small table per artifact, as several backends may load the same file.

    Many artifacts share one table: a browser takes its time over a thousand of them.
    """
    artifacts = {(a.key, a.sha256): a for r in _all_results(table) if (a := r.artifact)}
    if len(artifacts) > _MAX_PARITY_TABLES:
        lines = tuple(line for artifact in artifacts.values() for line in _artifact_lines(artifact))
        return [Grid("Every artifact, step by step", (("Artifact", False, ""), *_PARITY_HEADS), lines)]
    return [
        Grid(_artifact_text(artifact), _PARITY_HEADS, tuple(_step_line(step) for step in artifact.steps))
        for artifact in artifacts.values()
    ]


def _artifact_lines(artifact: Artifact) -> list[Line]:
    """Its steps, and what it is before the first of them."""
    lines = [_step_line(step) for step in artifact.steps]
    heads = [Cell(_artifact_text(artifact), css="artifact"), *[Cell("")] * (len(lines) - 1)]
    return [
        replace(line, cells=(head, *line.cells))
        for head, line in zip(heads[: len(lines)], lines, strict=True)
    ]


def _artifact_text(artifact: Artifact) -> str:
    """What was built, what reparameterization folded, what it left, and how to find the file."""
    model = artifact.model
    name = " ".join(filter(None, (model.name, model.weights_label, model.shape_label, artifact.precision)))
    name += "" if artifact.fused else " unfused"
    left_out = list(forms_left_out(artifact.build))
    name += f" without {fmt.listing(left_out)}" if left_out else ""
    batch = f" batch {artifact.batch_size}" if artifact.batch_size != 1 else ""
    folded = ", ".join(f"{kind} × {number}" for kind, number in sorted(artifact.folded.items())) or "nothing"
    return (
        f"{name}{batch}: folded {folded}; {fmt.count(artifact.batchnorms_left, 'BatchNorm')} left;"
        f" {artifact.kind}, {fmt.size(artifact.size_bytes)}, sha256 {artifact.sha256[:12]}"
    )


def parity_summary(table: RunTable) -> str:
    """One sentence: how many steps were checked and how many missed their tolerance."""
    artifacts = {(a.key, a.sha256): a for r in _all_results(table) if (a := r.artifact)}
    parities = [step.parity for artifact in artifacts.values() for step in artifact.steps if step.parity]
    if not parities:
        return "No artifact of this run has a parity check."
    failed = sum(not p.passed for p in parities)
    worst = max((p.max_relative for p in parities), key=lambda value: (value != value, value))
    verdict = "all within tolerance" if not failed else f"{failed} beyond tolerance"
    checked = f"{fmt.count(len(parities), 'step')} of {fmt.count(len(artifacts), 'artifact')}"
    return (
        f"{checked} checked against the eager fp32 model, {verdict};"
        f" the largest relative error is {fmt.error(worst)}."
    )


def flag_lines(table: RunTable) -> list[tuple[Flag, str]]:
    """(flag, the cases that carry it) in the order of seriousness."""
    carriers: dict[str, list[str]] = {}
    for row in table.rows:
        for flag in row.flags:
            carriers.setdefault(flag.name, []).append(row.case.label)
    return [(flag, _brief(carriers[flag.name])) for flag in table.flags]


def doubts(table: RunTable, unread: Sequence[str] = ()) -> dict[str, Any]:
    """What must be known beside the numbers: what failed, and that cases were not all taken side by side."""
    note = findings.batches_note() if table.info.is_batched else ""
    return {"failures": [*failures(table), *map(_unread, unread)], "batches_note": note}


def failures(table: RunTable) -> list[dict[str, str]]:
    """What failed, why, and what would help; cases that failed for one cause together."""
    return [_failed(group) for group in grouped(table.failures)]


def _failed(group: FailureGroup) -> dict[str, str]:
    first = group.results[0].failure
    single = group.is_single and first is not None
    built = single and first is not None and first.built and not group.results[0].rounds
    return {
        "case": group.results[0].case.label if single else group.title,
        "kind": group.kind,
        "state": "built, not timed" if built else "",
        "message": group.cause if single else group.names,
        "advice": group.advice,
        "signal": f"signal {first.signal}" if single and first is not None and first.signal else "",
    }


def _unread(text: str) -> dict[str, str]:
    """A row of others' figures that cannot be true; `text` begins with its file."""
    place, _, why = text.partition(": ")
    advice = "It is left out; nothing that is measured depends on it. Correct it, or put the table back."
    return {"case": place, "kind": "unread row", "state": "", "message": why, "advice": advice, "signal": ""}


def protocols(table: RunTable) -> list[Grid]:
    """Every protocol of the run with all its fields."""
    found = {facet.protocol.id: facet.protocol for facet in table.facets}
    uses = Counter(row.measurement.protocol.id for row in table.rows)
    return [
        facts(f"Protocol {key}, {fmt.count(uses[key], 'case')}", protocol.to_dict())
        for key, protocol in found.items()
    ]


def ledger(table: RunTable) -> list[tuple[str, int]]:
    """(part, ns) over all sessions; what no part accounts for is named as such. Empty without sessions."""
    wall = sum(session.wall_ns for session in table.sessions)
    if not wall:
        return []
    parts = {name: sum(int(s.ledger.get(name, 0)) for s in table.sessions) for name in LEDGER}
    others = {name: sum(int(s.ledger.get(name, 0)) for s in table.sessions) for name in _extra_parts(table)}
    named = {LEDGER[name]: value for name, value in parts.items()}
    named |= {name.removesuffix("_ns").replace("_", " "): value for name, value in others.items()}
    rest = wall - sum(named.values())
    return [*named.items(), ("unaccounted", rest)] if rest > 0 else list(named.items())


def harness_share(table: RunTable) -> float | None:
    """The share of wall time that was neither conversion, warm-up nor timed work."""
    wall = sum(session.wall_ns for session in table.sessions)
    asked_for = sum(int(s.ledger.get(name, 0)) for s in table.sessions for name in _ASKED_FOR)
    return (wall - asked_for) / wall if wall else None


_PARITY_HEADS = (
    ("Step", False, ""),
    ("Tool", False, ""),
    ("Max. absolute", True, "largest absolute difference from the eager fp32 model"),
    ("Max. relative", True, "divided by the reference's largest magnitude"),
    ("Tolerance", True, ""),
    ("Cosine", True, "smallest cosine similarity over the inputs"),
    ("Top-1", True, "positions (images, of a classifier) whose largest channel is the same"),
    ("Result", False, ""),
    ("Time", True, ""),
    ("Note", False, ""),
)


def _answer(facet: Facet) -> Line:
    rated = max((r for r in facet.ranked if r.gmacs_per_s), key=lambda r: r.gmacs_per_s or 0, default=None)
    agreement = findings.cost_agreement(facet, "gmacs")
    tau = agreement.tau if agreement else None
    leaders = facet.leaders
    first = leaders[0].summary if leaders else None
    return Line(
        (
            Cell(facet.title, css="name"),
            Cell(" = ".join(row.label for row in leaders) or "none can be ranked", css="strong"),
            Cell(
                fmt.latency_interval(first.median_ns, first.low_ns, first.high_ns) if first else fmt.MISSING
            ),
            Cell(findings.lead_text(facet)),
            Cell(f"{rated.label}, {fmt.rate(rated.gmacs_per_s or 0)}" if rated else fmt.MISSING),
            Cell(f"{tau:.2f}" if tau is not None else fmt.MISSING),
        )
    )


def _step_line(step: Step) -> Line:
    p = step.parity
    numbers = (
        [Cell(fmt.MISSING)] * 5
        if p is None
        else [
            Cell(fmt.error(p.max_absolute)),
            Cell(fmt.error(p.max_relative)),
            Cell(fmt.error(p.tolerance)),
            Cell(f"{p.cosine:.7f}"),
            Cell(agreement.file_share(p), p.top1_agreement),
        ]
    )
    verdict = Cell("not checked") if p is None else Cell("pass") if p.passed else Cell("FAIL", css="bad")
    divergence = f"first divergence: {step.first_divergence}" if step.first_divergence else ""
    note = "; ".join(filter(None, (step.note, divergence)))
    return Line(
        (
            Cell(step.name),
            Cell(step.tool),
            *numbers,
            verdict,
            Cell(fmt.duration(step.duration_ns)),
            Cell(note),
        ),
        css="" if p is None or p.passed else "bad-line",
    )


def _all_results(table: RunTable) -> list[CaseResult]:
    return [*(row.result for row in table.rows), *table.untimed, *table.failures, *table.pending]


def _extra_parts(table: RunTable) -> list[str]:
    return sorted({name for session in table.sessions for name in session.ledger} - set(LEDGER) - {"wall_ns"})


def _brief(labels: list[str], most: int = 4) -> str:
    shown = labels[:most]
    return ", ".join(shown) + (f" and {len(labels) - most} more" if len(labels) > most else "")
