"""A run's sweeps in the terminal: the furthest step along every axis, a line each, as far as they are few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import agreement
from reports import formatting as fmt
from reports.sweep import AXES, Curve, Held, Step, Sweep, inverse, step_between, step_words, words
from reports.sweep_groups import grouped, sweeps
from reports.tables import RunTable

MAX_LINES: Final = 16


def print_scaling(table: RunTable, console: Console) -> None:
    """Nothing where the run has no sweep."""
    found = sweeps(table, grouped(table))
    if not found:
        return
    console.print()
    head = (" from the first value to the last, other settings at their first", "dim")
    console.print(Text.assemble(("Scaling", "bold"), head))
    left = MAX_LINES
    for place, sweep in enumerate(found):
        steps = list(_steps(sweep, batched=table.info.is_batched))
        left -= len(steps) + (len(steps) > 1)
        if left < 0 < place:
            more = fmt.count(len(found) - place, "more model")
            console.print(Text(f"  {more}, and every step, in the report", style="dim"))
            return
        _print_model(sweep.label, steps, console)


def _print_model(label: str, steps: Sequence[str], console: Console) -> None:
    """A single step beside the name, several below it."""
    if len(steps) > 1:
        console.print(Text(f"  {label}", style="bold"))
    for step in steps:
        line = Text(step) if len(steps) > 1 else Text.assemble((f"{label}, ", "bold"), step)
        console.print(Padding(line, (0, 0, 0, 4 if len(steps) > 1 else 2), expand=False))


def _steps(sweep: Sweep, *, batched: bool) -> Iterator[str]:
    """From the first to the last value of each axis' first line; of precisions every one."""
    for axis in AXES:
        for curve in sweep.curves(axis)[:1]:
            for row in curve.rows[1:] if axis == "precision" else curve.rows[-1:]:
                step = step_between(axis, curve.rows[0], row, batched=batched)
                if step:
                    held = words(_unusual(sweep, curve))
                    yield f"{step_words(step)}{f' at {held}' if held else ''}: {_amounts_to(step)}"


def _unusual(sweep: Sweep, curve: Curve) -> Held:
    """What stays at another than its first value."""
    return tuple((name, value) for name, value in curve.held if value != sweep.values(name)[0])


def _amounts_to(step: Step) -> str:
    time = fmt.ratio_interval(step.time.value, step.time.low, step.time.high)
    if step.axis == "threads":
        gain = inverse(step.time)
        faster = fmt.ratio_interval(gain.value, gain.low, gain.high)
        return f"{faster} as fast, efficiency {fmt.percent(step.efficiency)}"
    if step.axis == "batch":
        return f"{time} the time, {fmt.ratio(step.images.value)} the images/s"
    if step.axis == "resolution":
        return f"{time} the time, pixels to the {step.exponent.value:.2f}"
    agreed = agreement.briefly(step.after.result)
    return f"{time} the time{f', top-1 {agreed} as fp32' if agreed else ''}"
