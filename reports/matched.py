"""Networks at the latency of a reference, and what they learned there: as text, values and a section."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.sections import Section
from reports.student import two_sided_quantile
from reports.verdicts import CONFIDENCE, Comparison, Verdict

HEADS = ("network", "setting", "time, of the reference's [95 %]", "within", "top-1 at the end, % [95 %]")


@dataclass(frozen=True, slots=True)
class Matched:
    """A network at the setting that the search found, or the nearest one.

    `comparison` is of fresh rounds beside the reference, none of the search's; None where it failed or is the
    reference itself. `finding` is what the search says. `top1` are shares of the held-out images after the
    last epoch, one per seed.
    """

    model: str
    knob: str
    setting: int
    finding: str
    comparison: Comparison | None
    top1: tuple[float, ...] = ()
    is_reference: bool = False

    @property
    def within(self) -> str:
        """Do the fresh rounds say that it is within the tolerance?"""
        if self.is_reference:
            return "the reference"
        if self.comparison is None:
            return "not measured"
        answers = {Verdict.EQUIVALENT: "yes", Verdict.INCONCLUSIVE: "undecided"}
        return answers.get(self.comparison.verdict, "no")

    def to_dict(self) -> dict[str, Any]:
        value = {"model": self.model, "knob": self.knob, "setting": self.setting, "search": self.finding}
        ratio = asdict(self.comparison.ratio) if self.comparison else None
        return {**value, "ratio": ratio, "within": self.within, "top1": list(self.top1)}


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of independent trainings with Student's 95 % interval; none from a single one."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = two_sided_quantile(CONFIDENCE, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def document(matched: Sequence[Matched]) -> dict[str, Any]:
    """Plain values for JSON."""
    return {"schema": 1, "networks": [each.to_dict() for each in matched]}


def print_matched(matched: Sequence[Matched], title: str, console: Console) -> None:
    """A line per network, what the searches say where there is no match, and how to read it."""
    console.print(Text(title, style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in _heads(matched):
        table.add_column(head)
    for each in matched:
        table.add_row(*(Text(cell.text) for cell in _cells(each)[: len(table.columns)]))
    console.print(table)
    for text in (*_findings(matched), *_notes(matched)):
        console.print(Text(text))


def section(matched: Sequence[Matched], title: str) -> Section:
    """The same as the first section of the run's report."""
    heads = _heads(matched)
    lines = tuple(Line(_cells(each)[: len(heads)]) for each in matched)
    grid = Grid("Networks at the reference's latency", tuple((head, False, "") for head in heads), lines)
    return Section("matched", "Matched", title, _findings(matched), (), (grid,), _notes(matched))


def _heads(matched: Sequence[Matched]) -> tuple[str, ...]:
    return HEADS if any(each.top1 for each in matched) else HEADS[:-1]


def _cells(each: Matched) -> tuple[Cell, ...]:
    ratio = each.comparison.ratio if each.comparison else None
    return (
        Cell(each.model, each.model),
        Cell(f"{each.knob} {each.setting}", each.setting),
        Cell(fmt.ratio_interval(ratio.value, ratio.low, ratio.high), ratio.value)
        if ratio
        else Cell(fmt.MISSING),
        Cell(each.within, each.within),
        _accuracy(each.top1),
    )


def _accuracy(top1: Sequence[float]) -> Cell:
    if not top1:
        return Cell(fmt.MISSING)
    mean, low, high = mean_interval(top1)
    interval = (
        "" if low is None or high is None else f" [{100 * max(0.0, low):.2f}, {100 * min(1.0, high):.2f}]"
    )
    return Cell(f"{100 * mean:.2f}{interval}", mean)


def _findings(matched: Sequence[Matched]) -> tuple[str, ...]:
    return tuple(f"{each.model}: {each.finding}." for each in matched if each.within in ("no", "undecided"))


def _notes(matched: Sequence[Matched]) -> tuple[str, ...]:
    notes = ["Ratios are of fresh rounds, all networks in turns; none of the search's is in them."]
    seeds = max((len(each.top1) for each in matched), default=0)
    if seeds:
        notes.append(
            f"Top-1 on the digits held out, after the last epoch, mean over {fmt.count(seeds, 'seed')}. Its"
            " interval is Student's and holds what differs from seed to seed, not what other images would"
            " change. Digits of 8x8 demonstrate the method: they say nothing of ImageNet."
        )
    return tuple(notes)
