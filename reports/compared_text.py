"""A comparison as text: for a terminal of any width, for a pull request, and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import formatting as fmt
from reports.codec import plain
from reports.compared import Compared, ComparedCase, Side
from reports.flags import describe
from reports.short_labels import shortened
from reports.statistics import Summary

SCHEMA = 1
_GAP = 2
_MIN_NAME = 16
_STYLES = {
    "faster": "green",
    "slower": "red",
    "regressed": "bold red",
    "undecided": "yellow",
    "inconclusive": "yellow",
}


def print_compared(compared: Compared, console: Console, *, verdict: str) -> None:
    """The two sides, a line per case, what is left out, what to know before believing it, and the verdict."""
    console.print(Text(f"A  {fmt.printable(compared.a.title)}"))
    console.print(Text(f"B  {fmt.printable(compared.b.title)}"))
    console.print(Text(compared.question, style="bold"))
    console.print()
    left_out = left_out_lines(compared)
    if compared.cases:
        _print_cases(compared, console)
        _print_flags(compared, console)
        if left_out:
            console.print()
    for text in left_out:
        console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2), expand=False))
    console.print()
    for text in compared.notes:
        console.print(Text(text))
    console.print()
    console.print(Text(verdict, style="bold"))


def markdown(compared: Compared, *, title: str, verdict: str) -> str:
    """A table for a pull request, under a title and one sentence that says what it comes to."""
    lines = [
        f"### {_escaped(title)}",
        "",
        f"**{_escaped(verdict)}**",
        "",
    ]
    if compared.cases:
        lines += [f"| case | A | B | {_ratio_head()} | verdict |", "|---|---:|---:|---:|---|"]
    for row in compared.cases:
        said = f"{row.state.upper() if row.state == 'regressed' else row.state}"
        said = f"{said}, {row.advice}" if row.advice else said
        cells = (row.label, _median(row.a), _median(row.b), ratio_text(row), said)
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    lines += ["", f"A: {_escaped(compared.a.title)}<br>B: {_escaped(compared.b.title)}", ""]
    lines += [f"- {_escaped(text)}" for text in (*compared.notes, *left_out_lines(compared))]
    return "\n".join(lines) + "\n"


def document(compared: Compared) -> dict[str, Any]:
    """The comparison as a plain JSON value, schema-numbered."""
    value = {
        "schema": SCHEMA,
        "a": _side_document(compared.a),
        "b": _side_document(compared.b),
        "paired": compared.paired,
        "band": list(compared.band),
        "cases": [_case_document(row) for row in compared.cases],
        "left_out": {one.key: list(one.labels) for one in compared.left_out},
        "notes": list(compared.notes),
    }
    found = plain(value)
    assert isinstance(found, dict)
    return found


def left_out_lines(compared: Compared) -> list[str]:
    """A sentence for every reason why a case is not in the table."""
    return [f"{one.reason} ({len(one.labels)}): {'; '.join(one.labels)}." for one in compared.left_out]


def ratio_text(row: ComparedCase) -> str:
    """`1.014× [1.011, 1.017]`."""
    ratio = row.ratio
    return fmt.ratio_interval(ratio.value, ratio.low, ratio.high)


def _ratio_head() -> str:
    return "A / B [95 %]"


def _print_cases(compared: Compared, console: Console) -> None:
    """All columns where they fit; in a narrow window the medians go, then the case takes its own line."""
    cells = [_cells(row) for row in compared.cases]
    heads = ["case", "A", "B", _ratio_head(), "verdict"]
    widths = [max(cell_len(line[i]) for line in (heads, *cells)) for i in range(5)]
    free = console.width - sum(widths[1:]) - 4 * _GAP
    shown = list(range(5)) if free >= min(widths[0], _MIN_NAME) else [0, 3, 4]
    free = console.width - sum(widths[i] for i in shown[1:]) - _GAP * (len(shown) - 1)
    stacked = free < min(widths[0], _MIN_NAME)
    widths[0] = min(widths[0], max(free, 1))
    if stacked:
        shown = shown[1:]
    for line, name in zip(cells, shortened([row.label for row in compared.cases], widths[0]), strict=True):
        line[0] = name
    console.print(_line(heads, widths, shown, style="bold"))
    for row, line in zip(compared.cases, cells, strict=True):
        if stacked:
            console.print(Text(row.label, style="cyan"), overflow="fold")
        console.print(_line(line, widths, shown, style=_STYLES.get(row.state, "")))
        if row.advice:
            console.print(Padding(Text(row.advice, style="dim"), (0, 0, 0, 2), expand=False))


def _cells(row: ComparedCase) -> list[str]:
    return [row.label, _median(row.a), _median(row.b), ratio_text(row), row.state]


def _line(cells: list[str], widths: list[int], shown: list[int], *, style: str) -> Text:
    """One line; the verdict is coloured."""
    line = Text(no_wrap=True)
    for place in shown:
        cell = Text(cells[place], style=style if place == 4 or style == "bold" else "")
        cell.truncate(widths[place])
        cell.align("left" if place in (0, 4) else "right", widths[place])
        line.append_text(cell).append(" " * _GAP)
    line.rstrip()
    return line


def _print_flags(compared: Compared, console: Console) -> None:
    carriers: dict[str, list[str]] = {}
    for row in compared.cases:
        for name in row.flags:
            carriers.setdefault(name, []).append(row.label)
    if carriers:
        console.print()
    for name, labels in carriers.items():
        flag = describe(name)
        which = "all cases" if len(labels) == len(compared.cases) > 1 else "; ".join(labels)
        text = Text.assemble((f"{flag.label}: ", "yellow"), f"{flag.meaning} ({which})")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _median(summary: Summary) -> str:
    return fmt.latency(summary.median_ns, summary.half_width)


def _side_document(side: Side) -> dict[str, Any]:
    info = side.info
    return {
        "name": side.name,
        "run_id": info.run_id,
        "suite": info.suite,
        "started_at_ns": info.started_at_ns,
        "revision": info.environment.get("revision"),
        "machine": info.environment.get("fingerprint"),
    }


def _case_document(row: ComparedCase) -> dict[str, Any]:
    return {
        "label": row.label,
        "state": row.state,
        "advice": row.advice,
        "comparison": {**dataclasses.asdict(row.comparison), "verdict": str(row.comparison.verdict)},
        "a": _summary_document(row.a),
        "b": _summary_document(row.b),
        "flags": list(row.flags),
        "other_protocols": row.other_protocols,
    }


def _summary_document(summary: Summary) -> dict[str, Any]:
    names = ("median_ns", "low_ns", "high_ns", "half_width", "rounds", "samples", "round_medians_ns")
    return {name: getattr(summary, name) for name in names}


def _escaped(text: str) -> str:
    """Nothing that Markdown or HTML would read as markup; another's names stay what they are."""
    text = fmt.printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|~#":
        text = text.replace(mark, f"\\{mark}")
    return text
