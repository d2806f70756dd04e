"""A case over time, for a terminal: a sparkline, a line per run, and the changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from reports import formatting as fmt
from reports.change_points import MIN_RUNS, Change
from reports.history import Series

_BARS = "▁▂▃▄▅▆▇█"
_LEAST_SPAN = math.log(1.04)  # the full height is 4 % at least, so that noise draws no mountains


def print_history(series: Sequence[Series], console: Console, *, last: int) -> None:
    """Every series, with its newest `last` runs in lines; the sparkline shows as many as the window holds."""
    for place, one in enumerate(series):
        if place:
            console.print()
        _print_one(one, console, last)


def sparkline(medians_ns: Sequence[float]) -> str:
    """A bar per run, the lowest median as the lowest bar."""
    logs = [math.log(value) for value in medians_ns]
    low, high = min(logs), max(logs)
    if high - low < _LEAST_SPAN:
        low = (low + high - _LEAST_SPAN) / 2
        high = low + _LEAST_SPAN
    steps = len(_BARS) - 1
    return "".join(_BARS[min(steps, round((value - low) / (high - low) * steps))] for value in logs)


def change_sentence(one: Series, change: Change) -> str:
    """`1.052× from run 12 on (2026-11-21 13:52 UTC, 0123456789ab), p < 0.001`."""
    point = one.points[change.place]
    where = ", ".join(filter(None, [fmt.moment(point.started_at_ns), point.revision]))
    p = fmt.probability(change.p_value)
    chance = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"{fmt.significant(change.ratio, 4)}× from run {point.run_id} on ({where}), {chance}"


def subtitle(one: Series) -> str:
    """What keeps this series apart from others of the case."""
    threads = fmt.count(one.protocol.threads, "thread") if one.protocol.threads else ""
    parts = [one.protocol.runtime, one.protocol.device, threads, one.machine, f"protocol {one.protocol.id}"]
    return fmt.printable(", ".join(filter(None, parts)))


def verdict(one: Series) -> str:
    """What the change-point search came to, in one sentence."""
    if len(one.points) < MIN_RUNS:
        return f"{fmt.count(len(one.points), 'run')}: changes are looked for from {MIN_RUNS} runs on."
    if not one.changes:
        return f"No change of level in {len(one.points)} runs."
    return f"{fmt.count(len(one.changes), 'change')} of level in {len(one.points)} runs:"


def _print_one(one: Series, console: Console, last: int) -> None:
    console.print(Text(fmt.printable(one.label), style="bold"))
    console.print(Text(subtitle(one)), style="dim")
    shown = one.points[-max(1, console.width - 2) :]
    low, high = (pick(point.median_ns for point in shown) for pick in (min, max))
    console.print(Text(f"  {sparkline([point.median_ns for point in shown])}", no_wrap=True))
    if len(shown) > 1:
        console.print(Text(f"  {fmt.duration(low)} to {fmt.duration(high)}", style="dim"))
    marks = {change.place: change for change in one.changes}
    hidden = max(0, len(one.points) - last)
    if hidden:
        console.print(
            Text(f"  … {fmt.count(hidden, 'earlier run')}: --last {len(one.points)} shows all", style="dim")
        )
    for place in range(hidden, len(one.points)):
        point = one.points[place]
        if place in marks:
            console.print(Text(f"  ── {change_sentence(one, marks[place])}", style="yellow"))
        latency = fmt.latency_interval(point.median_ns, point.low_ns, point.high_ns)
        line = Text(
            f"  run {point.run_id:<5} {fmt.moment(point.started_at_ns)}  {latency:<26} ", no_wrap=True
        )
        line.append(point.revision, style="dim")
        line.truncate(console.width, overflow="ellipsis")
        console.print(line)
    console.print(Text(verdict(one)))
    for change in one.changes:
        console.print(Text(f"  {change_sentence(one, change)}", style="yellow"))
