"""Accuracies that were measured here, below a run's table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from reports import formatting as fmt
from reports.evaluations import Evaluation
from reports.measured_accuracy import agreement_text, is_of, newest, share_text
from reports.records import CaseResult


def print_evaluated(
    evaluations: Sequence[Evaluation], results: Sequence[CaseResult], console: Console
) -> None:
    """Two or three lines for each evaluated file; nothing where there is none."""
    found = newest(evaluations)
    if not found:
        return
    console.print()
    console.print(Text("Accuracy measured here, 95 % intervals", style="bold"))
    for one in found:
        cases = sum(is_of(one, result) for result in results)
        model = f"{one.file.model.name} {one.file.model.shape_label} " if one.file.model else ""
        skipped = f", {one.images.skipped} skipped" if one.images.skipped else ""
        belongs = fmt.count(cases, "case") if cases else "no case of this run"
        console.print(Text(fmt.printable(f"{model}{one.file.precision} {one.file.kind}, {one.file.name}")))
        console.print(Text(f"  on {fmt.printable(one.data)}{skipped}; {belongs}", style="dim"))
        top5 = f"; top-5 {share_text(one.top5)}" if one.top5 else ""
        console.print(Text(f"  top-1 {share_text(one.top1)}{top5}"))
        if one.agreement:
            console.print(Text(f"  agreement with eager {agreement_text(one)}"))
