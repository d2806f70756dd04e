"""Networks at the latency of a reference, and what they learned there: as text, values and a section."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.matched_accuracy import mean_interval, notes, sentences
from reports.sections import Section
from reports.verdicts import Comparison, Verdict

if TYPE_CHECKING:
    from reports.drawing import Drawing

TRAINED = "top-1 at the end, % [95 %]"


@dataclass(frozen=True, slots=True)
class Matched:
    """A network at the setting that the search found, or the nearest one.

    `comparison` is of fresh rounds beside the reference, none of the search's; None where it failed or is the
    reference itself. `finding` is what the search says. `top1` are shares of the `images` held out after the
    last epoch, one per seed, and `trainings` how many were asked for. `fine` is the second knob where it was
    moved; `stages` says what each stage is made of, where that is known.
    """

    model: str
    knob: str
    setting: int
    finding: str
    comparison: Comparison | None
    top1: tuple[float, ...] = ()
    is_reference: bool = False
    fine: tuple[str, int] | None = None
    images: int = 0
    stages: str = ""
    trainings: int = 0

    @property
    def is_matched(self) -> bool:
        """The reference, or found within the tolerance by the fresh rounds."""
        return self.within in ("the reference", "yes")

    @property
    def setting_text(self) -> str:
        """`depth 9, hidden 94`."""
        return ", ".join(
            f"{name} {value}" for name, value in filter(None, ((self.knob, self.setting), self.fine))
        )

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
        fine = {"name": self.fine[0], "setting": self.fine[1]} if self.fine else None
        value = {"model": self.model, "knob": self.knob, "setting": self.setting, "fine_knob": fine}
        ratio = asdict(self.comparison.ratio) if self.comparison else None
        mean, low, high = mean_interval(self.top1) if self.top1 else (None, None, None)
        return {
            **value,
            "stages": self.stages,
            "search": self.finding,
            "ratio": ratio,
            "within": self.within,
            "trainings": self.trainings,
            "top1": list(self.top1),
            "accuracy": {"mean": mean, "low": low, "high": high, "images": self.images},
        }


Column = tuple[str, Callable[[Matched], Cell]]


def document(matched: Sequence[Matched]) -> dict[str, Any]:
    """Plain values for JSON."""
    networks = [each.to_dict() for each in matched]
    return {"schema": 1, "networks": networks, "findings": list(_findings(matched))}


def print_matched(matched: Sequence[Matched], title: str, console: Console) -> None:
    """A line per network, what the accuracies and the searches say, and how to read it."""
    console.print(Text(title, style="bold"))
    columns = _columns(matched)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, (head, _) in enumerate(columns):
        table.add_column(head, no_wrap=index == 0)  # a network's name is read whole in any window
    for each in matched:
        table.add_row(*(Text(cell(each).text) for _, cell in columns))
    console.print(table)
    for text in (*_findings(matched), *_notes(matched)):
        console.print(Text(text))


def section(matched: Sequence[Matched], title: str) -> Section:
    """The same as the first section of the run's report, with a figure where networks were trained."""
    columns = _columns(matched)
    lines = tuple(Line(tuple(cell(each) for _, cell in columns)) for each in matched)
    heads = tuple((head, False, "") for head, _ in columns)
    grid = Grid("Networks at the reference's latency", heads, lines)
    return Section(
        "matched", "Matched", title, _findings(matched), _drawings(matched), (grid,), _notes(matched)
    )


def _drawings(matched: Sequence[Matched]) -> tuple[Drawing, ...]:
    trained = [each for each in matched if each.top1]
    if not trained:
        return ()
    from reports.matched_plot import accuracy_panel

    return (accuracy_panel(trained),)


def _columns(matched: Sequence[Matched]) -> list[Column]:
    """Those that have something to say."""
    columns: list[Column] = [
        ("network", lambda each: Cell(each.model, each.model)),
        ("setting", lambda each: Cell(each.setting_text, each.setting)),
    ]
    if any(_is_mixed(each) for each in matched):
        columns.append(("stages", lambda each: Cell(each.stages or fmt.MISSING)))
    columns += [
        ("time, of the reference's [95 %]", _time),
        ("within", lambda each: Cell(each.within, each.within)),
    ]
    return columns + ([(TRAINED, _accuracy)] if any(each.top1 for each in matched) else [])


def _is_mixed(each: Matched) -> bool:
    """Made of several kinds of blocks: otherwise its name and depth say it all."""
    return len(set(re.findall(r"[A-Za-z]\w*", each.stages))) > 1


def _time(each: Matched) -> Cell:
    if each.comparison is None:
        return Cell(fmt.MISSING)
    ratio = each.comparison.ratio
    return Cell(fmt.ratio_interval(ratio.value, ratio.low, ratio.high), ratio.value)


def _accuracy(each: Matched) -> Cell:
    if not each.top1:
        return Cell(fmt.MISSING)
    mean, low, high = mean_interval(each.top1)
    interval = (
        "" if low is None or high is None else f" [{100 * max(0.0, low):.2f}, {100 * min(1.0, high):.2f}]"
    )
    return Cell(f"{100 * mean:.2f}{interval}", mean)


def _findings(matched: Sequence[Matched]) -> tuple[str, ...]:
    unmatched = (_unmatched(each) for each in matched if each.within in ("no", "undecided"))
    return (*sentences(matched), *unmatched)


def _unmatched(each: Matched) -> str:
    """What the search said, which may be the opposite, and what the rounds after it say."""
    assert each.comparison is not None
    ratio = each.comparison.ratio
    searched = f"the search said: {each.finding}; " if each.finding else ""
    share = f"within {100 * each.comparison.delta:g} %"
    judged = f"not {share}" if each.within == "no" else f"undecided if {share}"
    return (
        f"{each.model}: {searched}the fresh rounds: {fmt.ratio_interval(ratio.value, ratio.low, ratio.high)},"
        f" {judged}."
    )


def _notes(matched: Sequence[Matched]) -> tuple[str, ...]:
    fresh = "Ratios are of fresh rounds, all networks in turns; none of the search's is in them."
    return (fresh, *_tests(matched), *_same(matched), *_untrained(matched), *notes(matched))


def _tests(matched: Sequence[Matched]) -> tuple[str, ...]:
    """What decides the column "within", which is another interval than the one beside it."""
    tolerance = next((f"{100 * each.comparison.delta:g} %" for each in matched if each.comparison), "")
    if not tolerance:
        return ()
    return (
        f"Within {tolerance}: yes where the 90 % interval lies inside (two one-sided tests at 5 % each),"
        " which is narrower than that of 95 % shown; no where that of 95 % lies outside; else undecided.",
    )


def _same(matched: Sequence[Matched]) -> tuple[str, ...]:
    """Patterns of stages that are one and the same at the settings that were found."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for each in matched:
        if _is_mixed(each):
            groups.setdefault((each.stages, each.fine), []).append(each.model)
    return tuple(
        f"{fmt.listing(names)} are one network here, of the same stages: what differs between them is noise."
        for names in groups.values()
        if len(names) > 1
    )


def _untrained(matched: Sequence[Matched]) -> tuple[str, ...]:
    """Which trainings a run lacks that is under way, was ended, or had one that stopped."""
    lacking = [
        f"{each.model} has {len(each.top1)} of {each.trainings}"
        for each in matched
        if len(each.top1) < each.trainings
    ]
    return (f"Not all trainings are done: {fmt.listing(lacking)}.",) if lacking else ()
