"""The sections on what fusion and each form for deployment save: sentences, figures, a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.records import CaseResult
from reports.savings import FUSION, Saving, counterpart, form_savings, fusion_savings
from reports.sections import Section
from reports.statistics import Summary
from reports.tables import RunTable
from reports.verdicts import DELTA, Verdict

if TYPE_CHECKING:
    from reports.drawing import Drawing

_MAX_NAMED: Final = 3
_NOTE: Final = (
    f"Ratios are paired by round; verdicts are at a margin of {fmt.percent(DELTA, digits=1)} and hold for"
    " all lines of the table together. Parity is of the outputs after the step, against the eager fp32 model."
)


def fusion_section(table: RunTable) -> Section | None:
    """None where no case was measured both fused and unfused."""
    found = fusion_savings(table)
    if not found:
        return None
    drawings = _drawings(found, "fusion")
    grids = (grid(found, table.unit, caption="Fused against unfused"),)
    return Section(
        "fusion", "Fusion", "What fusion gains", tuple(sentences(found)), drawings, grids, (_NOTE,)
    )


def forms_section(table: RunTable) -> Section | None:
    """None where no case was asked for without a form."""
    found, failed = form_savings(table), _failures(table)
    if not found and not failed:
        return None
    return Section(
        "forms",
        "Forms",
        "What each form saves",
        tuple(sentences(found)),
        _drawings(found, "form"),
        (grid(found, table.unit, caption="With each form for deployment, and without"),) if found else (),
        (*failed, *([_NOTE] if found else [])),
    )


def sentences(found: Sequence[Saving]) -> list[str]:
    """One on fusion, one on each form."""
    return [_sentence(group) for group in _by_names(found)]


def _sentence(group: Sequence[Saving]) -> str:
    """`Fusion makes 3 of 4 cases faster beyond the noise, ncb most: 1.32× [1.31, 1.33]; ntb undecided.`"""
    what = group[0].what
    subject = what.capitalize() if what == FUSION else f"The form {what}"
    faster = [saving for saving in group if saving.time.verdict is Verdict.SLOWER]
    text = f"{subject} makes {len(faster)} of {fmt.count(len(group), 'case')} faster beyond the noise"
    if faster:
        best = max(faster, key=lambda saving: saving.ratio.value)
        text += f", {best.label} most: {best.ratio_text}"
    slower = [saving for saving in group if saving.time.verdict is Verdict.FASTER]
    if slower:
        worst = min(slower, key=lambda saving: saving.ratio.value)
        whose = f", {worst.label} most" if len(slower) > 1 else ""
        text += f"; {_names(slower)} became slower{whose}: {worst.ratio_text}"
    words = {
        Verdict.EQUIVALENT: f"changed by less than {fmt.percent(DELTA, digits=1)}",
        Verdict.INCONCLUSIVE: "undecided",
    }
    for verdict, said in words.items():
        if them := [saving for saving in group if saving.time.verdict is verdict]:
            text += f"; {_names(them)} {said}"
    same = [saving for saving in group if saving.same_operators]
    if same:
        text += f". The operators of {_names(same)} are the same in both files"
    return f"{text}."


def grid(found: Sequence[Saving], unit: tuple[float, str], *, caption: str) -> Grid:
    """A line per case and form: times of both files, their ratio, what it amounts to, what was replaced."""
    of_forms = any(saving.names != (FUSION,) for saving in found)
    flagged = any(_flag_text(saving) for saving in found)
    heads = (
        ("Case", False, ""),
        *((("Form", False, "for deployment"),) if of_forms else ()),
        (f"{'With' if of_forms else 'Fused'}, {unit[1]}", True, ""),
        (f"{'Without' if of_forms else 'Unfused'}, {unit[1]}", True, ""),
        ("Without / with [95 %]", True, "time without the step over time with it, paired by round"),
        ("Verdict", False, "on the step, of all lines together"),
        ("Replaced", True, "modules in the other form") if of_forms else ("Folded", True, "layers"),
        ("Operators", True, "of the file without the step, and with it"),
        ("Parity", True, "largest error after the step, relative to the eager fp32 model's largest output"),
        ("Rounds", True, "pairs of rounds"),
        *((("Flags", False, "of either case"),) if flagged else ()),
    )
    lines = tuple(_line(saving, unit, of_forms=of_forms, flagged=flagged) for saving in found)
    return Grid(caption, heads, lines)


def _line(saving: Saving, unit: tuple[float, str], *, of_forms: bool, flagged: bool) -> Line:
    told_apart = saving.time.differs
    css = "doubtful" if saving.serious else "strong" if told_apart else "tie"
    cells = [
        Cell(saving.label, css="name", title=saving.row.case.label),
        *([Cell(saving.what)] if of_forms else []),
        Cell(_plain_time(saving.row.summary, unit), saving.row.summary.median_ns),
        Cell(_plain_time(saving.without.summary, unit), saving.without.summary.median_ns),
        Cell(saving.ratio_text, saving.ratio.value, css),
        Cell(saving.verdict, css="" if told_apart else "tie", title=saving.advice),
        _counted(saving.replaced),
        Cell(operators_text(saving)),
        _parity(saving),
        Cell(str(saving.ratio.pairs), saving.ratio.pairs),
    ]
    return Line((*cells, *((Cell(_flag_text(saving), css="flagged"),) if flagged else ())))


def operators_text(saving: Saving) -> str:
    """`412 → 388`, or `388, the same` where the files have the same operators."""
    if saving.operators is None:
        return fmt.MISSING
    without, with_it = saving.operators
    return f"{with_it}, the same" if saving.same_operators else f"{without} → {with_it}"


def _counted(count: int | None) -> Cell:
    return Cell(fmt.MISSING) if count is None else Cell(str(count), count)


def _parity(saving: Saving) -> Cell:
    parity = saving.parity
    if parity is None:
        return Cell(fmt.MISSING)
    told = f"tolerance {fmt.error(parity.tolerance)}"
    css = "" if parity.passed else "bad"
    return Cell(fmt.error(parity.max_relative), parity.max_relative, css, told)


def _plain_time(summary: Summary, unit: tuple[float, str]) -> str:
    text = fmt.duration(summary.median_ns, half_width=summary.half_width, unit=unit)
    return text.removesuffix(f" {unit[1]}")


def _flag_text(saving: Saving) -> str:
    return ", ".join(dict.fromkeys(flag.label for row in (saving.row, saving.without) for flag in row.flags))


def _drawings(found: Sequence[Saving], name: str) -> tuple[Drawing, ...]:
    """A panel for fusion or for each form, all on one axis."""
    from reports.savings_figure import panels

    return panels(list(_by_names(found)), name)


def _by_names(found: Iterable[Saving]) -> list[list[Saving]]:
    groups: dict[tuple[str, ...], list[Saving]] = {}
    for saving in found:
        groups.setdefault(saving.names, []).append(saving)
    return list(groups.values())


def _failures(table: RunTable) -> list[str]:
    """Cases without a form that gave no number, while there is one with it."""
    measured = {row.case.id: row for row in table.rows}
    lines = []
    for result in table.failures:
        left_out = counterpart(result.case)
        row = measured.get(left_out[1].id) if left_out else None
        if left_out and row and left_out[0] != (FUSION,) and not result.rounds:
            lines.append(f"{row.label} without {fmt.listing(list(left_out[0]))} {_failed(result)}.")
    return lines


def _failed(result: CaseResult) -> str:
    assert result.failure is not None
    return f"failed ({result.failure.kind.replace('_', ' ')}): the reason is below the table of results"


def _names(savings: Sequence[Saving]) -> str:
    labels = list(dict.fromkeys(saving.label for saving in savings))
    if len(labels) > _MAX_NAMED + 1:
        labels = [*labels[:_MAX_NAMED], f"{len(labels) - _MAX_NAMED} more"]
    return fmt.listing(labels)
