"""The page's section on devices with an agent: tables, figures and the words around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reports import device_grids as grids
from reports import device_text as text
from reports.device_facts import cost_shares
from reports.device_profile import DeviceProfile, ModelOnDevice, profiles
from reports.flags import describe
from reports.statistics import OTHER_TOOL
from reports.tables import Facet, RunTable

if TYPE_CHECKING:
    from reports.drawing import Drawing


def section(table: RunTable) -> dict[str, Any]:
    """For the template; `devices` is empty where no case of the run comes from an agent or importer."""
    found = profiles(table)
    return {
        "devices": [_device(one, table, f"device-{place}") for place, one in enumerate(found)],
        "device_bench": any(unit.bench for one in found for _, unit in one.units),
    }


def _device(device: DeviceProfile, table: RunTable, name: str) -> dict[str, Any]:
    from reports import figures

    mark = " (simulated)" if device.simulated else ""
    facets = [_facet(model, mark) for model in device.models]
    medians = figures.latency_panels(facets, table.unit, name=f"{name}-units")
    samples = figures.sample_panels(facets, name=f"{name}-samples")
    models = [
        (
            model.label,
            grids.units(model, table.unit),
            [
                replace(median, caption="medians and 95 % intervals"),
                replace(strips, caption="every sample, a line of ticks per round"),
            ],
        )
        for model, median, strips in zip(device.models, medians, samples, strict=True)
    ]
    return {
        "name": device.name,
        "facts": [device.runtime, f"driver {device.driver}"],
        "simulated": device.simulated,
        "models": models,
        "other_tool": any(describe(OTHER_TOOL) in unit.row.flags for _, unit in device.units),
        "loads": grids.loads(device),
        "drift": grids.drift(device),
        "placement": grids.placement(device),
        "placement_panels": _placement_panels(device, mark, name),
        "placement_details": _details(device),
        "unreadable": _unreadable(device),
    }


def _facet(model: ModelOnDevice, mark: str) -> Facet:
    """The units as the rows of one figure."""
    rows = tuple(replace(one.row, label=one.unit, versus_best=None, rank=one.rank) for one in model.units)
    return Facet(f"{model.label}{mark}", {}, rows[0].measurement.protocol, rows, model.ordering)


def _placement_panels(device: DeviceProfile, mark: str, name: str) -> list[Drawing]:
    """Estimated cost by device, one panel per model whose plan estimates one."""
    from reports.device_figures import placement_panel

    panels = []
    for place, model in enumerate(device.models):
        costed = {unit.unit: shares for unit in model.units if (shares := cost_shares(unit.facts.shares))}
        if costed:
            title = f"{model.label}{mark}"
            panels.append(placement_panel(title, costed, name=f"{name}-placement-{place}"))
    return panels


def _details(device: DeviceProfile) -> list[tuple[str, str, Sequence[Any]]]:
    """(case, its placement in one line, tables by block and by operation) of every case that has a plan."""
    return [
        (f"{model.label}, {unit.unit}", text.placement(unit.facts.shares), grids.placement_details(unit))
        for model, unit in device.units
        if unit.facts.operations
    ]


def _unreadable(device: DeviceProfile) -> list[str]:
    """What was told in a form that no agent writes, by case."""
    return [
        f"{model.label}, {unit.unit}: {', '.join(unit.facts.unreadable)}"
        for model, unit in device.units
        if unit.facts.unreadable
    ]
