"""What fusion and each form for deployment save, in the terminal: a sentence, a line per form and case."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import formatting as fmt
from reports.savings import Saving, form_savings, fusion_savings
from reports.savings_section import operators_text, sentences
from reports.tables import RunTable

MAX_LINES: Final = 24


def print_savings(table: RunTable, console: Console) -> None:
    """Nothing where every case is fused and in all of its forms, or has nothing to compare with."""
    fusion, forms = fusion_savings(table), form_savings(table)
    if fusion or forms:
        console.print()
    for text in sentences(fusion):
        console.print(Text(text))
    if not forms:
        return
    head = (" time without over time with it, paired by round", "dim")
    console.print(Text.assemble(("Forms", "bold"), head))
    for saving in forms[:MAX_LINES]:
        line = Text.assemble((f"{saving.what}, {saving.label}: ", "bold"), _amounts_to(saving))
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    if len(forms) > MAX_LINES:
        console.print(Text(f"  {len(forms) - MAX_LINES} more in the report", style="dim"))


def _amounts_to(saving: Saving) -> str:
    """`1.03× [1.02, 1.04], saves time; 12 modules, operators 412 → 388, parity 3.1e-07`"""
    verdict = f"{saving.verdict}: {saving.advice}" if saving.advice else saving.verdict
    told = [
        fmt.count(saving.replaced, "module") if saving.replaced is not None else "",
        f"operators {operators_text(saving)}" if saving.operators else "",
        f"parity {fmt.error(saving.parity.max_relative)}" if saving.parity else "",
    ]
    return "; ".join(filter(None, (f"{saving.ratio_text}, {verdict}", ", ".join(filter(None, told)))))
