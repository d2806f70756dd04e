"""Two runs side by side, or two cases of one: which cases pair up, and what their ratio lets one say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports import formatting as fmt
from reports.allowed_cpu import allowed_differences
from reports.flags import flags
from reports.pairing import CompareError, Pairs, by_id, case_name, matched, nothing_in_common
from reports.records import CaseResult, RunInfo
from reports.statistics import Summary, summarize
from reports.verdicts import (
    MAX_ROUNDS_NEEDED,
    Comparison,
    Ratio,
    Verdict,
    adjust,
    compare,
    protocol_differences,
)

_OF_ONE_SIDE = frozenset({"not_converged", "few_rounds"})  # the ratio's own interval says as much
_NAMED = 3  # differences of two protocols that are named
_MISMATCHED = "Different protocols or batch sizes, not compared"


@dataclass(frozen=True)
class Side:
    """One of the two: a run, by a short name, and the results of it that are compared."""

    name: str
    info: RunInfo
    results: tuple[CaseResult, ...]

    @property
    def title(self) -> str:
        """`run 7 (blocks, 2026-11-21 13:52 UTC, revision 0123456789ab with local changes)`."""
        facts = [self.info.suite, fmt.moment(self.info.started_at_ns), revision_text(self.info)]
        return f"{self.name} ({', '.join(filter(None, facts))})"


@dataclass(frozen=True)
class ComparedCase:
    """One case of both sides. `comparison` is of the time of A over that of B; `state` is what to say of it.

    `other_protocols` names how the two protocols and batch sizes differ, empty where they are one. `advice`
    says what would settle what is open.
    """

    label: str
    a: Summary
    b: Summary
    comparison: Comparison
    state: str
    flags: tuple[str, ...] = ()
    other_protocols: str = ""
    advice: str = ""

    @property
    def ratio(self) -> Ratio:
        return self.comparison.ratio


@dataclass(frozen=True)
class LeftOut:
    """Cases that are not in the table, and why: `key` for programs, `reason` for people."""

    key: str
    reason: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """Two sides, the cases that both have, and what only one has or what must not be compared.

    `band` is drawn around 1: (lower, upper end). `question` is the sentence under the title; `notes` what a
    reader must know before believing the table.
    """

    a: Side
    b: Side
    cases: tuple[ComparedCase, ...]
    band: tuple[float, float]
    question: str
    paired: bool = False
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def compare_sides(
    a: Side,
    b: Side,
    *,
    delta: float,
    same_run: bool = False,
    chosen: bool = False,
    force: bool = False,
    pairs: Pairs | None = None,
) -> Compared:
    """The comparison of A with B: ratios are the time of A over that of B.

    `same_run` says that both are of one run, whose rounds were interleaved: they are paired then. `chosen`
    says that cases were named, so that a case of A may pair with another one of B; `pairs` names the pairs
    themselves. Raises CompareError where nothing is left to compare.
    """
    if pairs is None:
        pairs = matched(a.results, b.results) if chosen else by_id(a.results, b.results)
    if not pairs:
        raise CompareError(nothing_in_common(a.results, b.results, names=(a.name, b.name)))
    measured = [pair for pair in pairs if pair[1].measurement and pair[2].measurement]
    mismatched = [(label, differences) for label, x, y in measured if (differences := _differences(x, y))]
    barred = set() if force else {label for label, _ in mismatched}
    kept = [pair for pair in measured if pair[0] not in barred]
    rows = [_row(*pair, delta, paired=same_run, force=force) for pair in kept]
    found = tuple(row for row in rows if row)
    if not found:
        raise CompareError(_nothing_left(a, b, mismatched))
    return Compared(
        a,
        b,
        _adjusted(found),
        band=(1.0 / (1.0 + delta), 1.0 + delta),
        question=f"Time of {a.name} over that of {b.name}; below 1, {a.name} is faster.",
        paired=same_run,
        left_out=_left_out(a, b, pairs, () if force else mismatched),
        notes=(*_pairing_notes(a.info, b.info, same_run), *_forced_notes(mismatched if force else ())),
    )


def summary_sentence(compared: Compared) -> str:
    """`Of 4 cases, run 7 is slower in 1 and equivalent in 3.`; the family is judged as one."""
    counts = Counter(row.state for row in compared.cases)
    said = [f"{state} in {counts[state]}" for state in map(str, Verdict) if counts[state]]
    margin = fmt.percent(compared.band[1] - 1.0)
    return (
        f"Of {fmt.count(len(compared.cases), 'case')}, {compared.a.name} is {fmt.listing(said)}, at a margin"
        f" of {margin}."
    )


def revision_text(info: RunInfo) -> str:
    """`revision 0123456789ab with local changes`; empty where the environment does not tell."""
    revision = info.environment.get("revision")
    if not isinstance(revision, Mapping) or not revision.get("commit"):
        return ""
    changed = " with local changes" if revision.get("dirty") else ""
    return f"revision {str(revision['commit'])[:12]}{changed}"


def _left_out(a: Side, b: Side, pairs: Pairs, mismatched: Sequence[tuple[str, str]]) -> tuple[LeftOut, ...]:
    used = {r.case.id for _, *both in pairs for r in both}
    only = [[case_name(r.case) for r in side.results if r.case.id not in used] for side in (a, b)]
    unmeasured = [label for label, x, y in pairs if not (x.measurement and y.measurement)]
    found = (
        LeftOut("only_a", f"Only in {a.name}", tuple(only[0])),
        LeftOut("only_b", f"Only in {b.name}", tuple(only[1])),
        LeftOut("unmeasured", "Not measured on both sides", tuple(unmeasured)),
        LeftOut("mismatched", _MISMATCHED, tuple(map(": ".join, mismatched))),
    )
    return tuple(one for one in found if one.labels)


def _row(
    label: str, a: CaseResult, b: CaseResult, delta: float, *, paired: bool, force: bool
) -> ComparedCase | None:
    assert a.measurement is not None
    assert b.measurement is not None
    found = compare(a.measurement, b.measurement, delta=delta, paired=paired, force=force)
    if found is None:
        return None
    x, y = (summarize(m, target=delta) for m in (a.measurement, b.measurement))
    named = {flag.name for result, summary in ((a, x), (b, y)) for flag in flags(result, summary)}
    doubts = tuple(sorted(named - _OF_ONE_SIDE))
    return ComparedCase(label, x, y, found, str(found.verdict), doubts, _differences(a, b))


def _adjusted(rows: Sequence[ComparedCase]) -> tuple[ComparedCase, ...]:
    """Verdicts that hold for all cases of the table together."""
    comparisons = adjust({place: row.comparison for place, row in enumerate(rows)})
    return tuple(
        replace(row, comparison=found, state=str(found.verdict), advice=_advice(found))
        for row, found in zip(rows, comparisons.values(), strict=True)
    )


def _advice(found: Comparison) -> str:
    return settled_by(found.rounds_needed) if found.verdict is Verdict.INCONCLUSIVE else ""


def settled_by(rounds_needed: int | None) -> str:
    """What an undecided case needs."""
    if rounds_needed is None:
        return "one round gives no interval"
    return f"{rounds_text(rounds_needed)} would settle it"


def rounds_text(needed: int) -> str:
    """`about 12 rounds`; an estimate at its end is no number any more."""
    return f"over {needed - 1} rounds" if needed >= MAX_ROUNDS_NEEDED else f"about {needed} rounds"


def _differences(a: CaseResult, b: CaseResult) -> str:
    """What makes the times of two cases different quantities: an inference of 8 images is none of one."""
    assert a.measurement is not None
    assert b.measurement is not None
    sizes = (a.case.batch_size, b.case.batch_size)
    batches = [f"batch size ({sizes[0]} and {sizes[1]})"] if sizes[0] != sizes[1] else []
    found = [*batches, *protocol_differences(a.measurement, b.measurement)]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def _pairing_notes(a: RunInfo, b: RunInfo, same_run: bool) -> list[str]:
    if same_run:
        return ["Both are of one run, whose rounds were interleaved: the ratios are of paired rounds."]
    notes = [
        f"Measured {_apart(a, b)}: unpaired. A machine drifts between runs, and no interval of two runs holds"
        " that; bench.py gate measures both sides again in one run."
    ]
    machines = [info.environment.get("fingerprint") for info in (a, b)]
    if machines[0] != machines[1]:
        notes.append("The two runs are of different machines: this compares machines too.")
    elif allowed := allowed_differences(a, b):
        notes.append(
            f"The two runs had different parts of their machine, {fmt.listing(allowed)}: this compares those"
            " too."
        )
    return notes


def _apart(a: RunInfo, b: RunInfo) -> str:
    if not (a.started_at_ns and b.started_at_ns):
        return "at different times"
    return f"{fmt.span(abs(a.started_at_ns - b.started_at_ns))} apart"


def _forced_notes(mismatched: Sequence[tuple[str, str]]) -> list[str]:
    if not mismatched:
        return []
    kinds = list(dict.fromkeys(differences for _, differences in mismatched))
    return [
        f"Forced: {fmt.count(len(mismatched), 'case')} of different protocols or batch sizes, which are"
        f" different quantities: {kinds[0]}{' …' if len(kinds) > 1 else ''}."
    ]


def _nothing_left(a: Side, b: Side, mismatched: Sequence[tuple[str, str]]) -> str:
    if not mismatched:
        return f"no case that {a.name} and {b.name} have in common was measured in both: run the suite again"
    label, differences = mismatched[0]
    return (
        f"{a.name} and {b.name} were measured under different protocols or batch sizes ({label}:"
        f" {differences}): measure both in the same way, or compare them all the same with --force"
    )
