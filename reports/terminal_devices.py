"""Devices with an agent in the terminal: a line per model and compute unit, below the latencies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import device_text as text
from reports import formatting as fmt
from reports.device_profile import UnitProfile, median_ns, profiles
from reports.drift import MIN_CHANGE
from reports.tables import RunTable


def print_devices(table: RunTable, console: Console) -> None:
    """Loads, placement, and what moved; nothing where no case of the run comes from an agent."""
    for device in profiles(table):
        console.print()
        mark = " (simulated)" if device.simulated else ""
        title = f"{device.name}{mark}, {device.runtime}, driver {device.driver}"
        console.print(Text(fmt.printable(title), style="bold"))
        for model, unit in device.units:
            line = Text.assemble((f"{model.label}, {unit.unit}: ", "bold"), "; ".join(_parts(unit)))
            console.print(
                Padding(Text(fmt.printable(line.plain), spans=line.spans), (0, 0, 0, 2), expand=False)
            )


def _parts(unit: UnitProfile) -> Iterator[str]:
    """What a reader needs beside the latency; the page has the rest."""
    facts = unit.facts
    for name, values in (("cold load", facts.cold_load_ns), ("warm", facts.warm_load_ns)):
        if median := median_ns(values):
            yield f"{name} {fmt.duration(median)}"
    if placed := text.placement(facts.shares):
        yield placed
    for words, ratio in (("in a round", unit.within_rounds), ("over the rounds", unit.across_rounds)):
        if ratio and abs(ratio.value - 1) >= MIN_CHANGE:
            yield f"{text.change(ratio)} {words}"
    if (thermal := text.thermal(facts)) not in (text.NOT_TOLD, "nominal"):
        yield f"thermal state {thermal}"
