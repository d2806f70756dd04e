"""Devices with an agent: the compute units of one model side by side, and what is read beside the latency.

A unit's rounds were taken one job after the other, not in turns with those of the other units: a ratio of two
units holds whatever the device did between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from device_agents.job import COMPUTE_UNITS
from device_agents.modelbench import ModelBench, aggregate
from device_agents.placement import PlacementShare, by_block, by_operator
from models.spec import Case
from reports.device_facts import DeviceFacts, facts_of, in_order
from reports.flags import is_simulated
from reports.layer_names import module_at_level
from reports.records import CaseResult
from reports.statistics import Ordering, Rank, Ratio, counted_rounds, order, paired_ratio
from reports.tables import Row, RunTable, settings
from reports.verdicts import compare
from runners.measurement import Measurement, Round

MIN_THIRD = 2  # samples in a third of a round, below which its median says nothing
_BLOCK_LEVEL = 2  # `stages.0.0` of `stages.0.0.mlp.conv1`


@dataclass(frozen=True)
class UnitProfile:
    """One model on one compute unit.

    `rank` is among the model's units, None for a number in doubt, and `versus_fastest` the time over that of
    the fastest, None for that one itself. `within_rounds` is
    the last third of a round's samples over its first third, `across_rounds` the last third of the rounds
    over the first. `bench` is ModelBench's aggregate, None where there are too few samples for it.
    """

    row: Row
    facts: DeviceFacts
    bench: ModelBench | None
    within_rounds: Ratio | None
    across_rounds: Ratio | None
    rank: Rank | None = None
    versus_fastest: Ratio | None = None

    @property
    def fastest(self) -> bool:
        """No other unit is faster beyond the noise."""
        return self.rank is not None and self.rank.first == 1

    @property
    def unit(self) -> str:
        return self.row.measurement.protocol.compute_unit


@dataclass(frozen=True)
class ModelOnDevice:
    """A model's compute units in Core ML's order; `missing` are those without a number, and why.

    `ordering` says which units are told apart, all pairs being one family.
    """

    label: str
    units: tuple[UnitProfile, ...]
    ordering: Ordering
    missing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DeviceProfile:
    """Everything that one device was asked in a run, by one driver and under one system."""

    name: str
    driver: str
    runtime: str
    simulated: bool
    models: tuple[ModelOnDevice, ...]

    @property
    def units(self) -> list[tuple[ModelOnDevice, UnitProfile]]:
        return [(model, unit) for model in self.models for unit in model.units]


def profiles(table: RunTable) -> list[DeviceProfile]:
    """Of every device of the run that has an agent or an importer, in the order of the plan."""
    devices: dict[tuple[str, str, str], dict[str, list[tuple[Row, DeviceFacts]]]] = {}
    for row in _in_plan_order(table):
        facts = facts_of(row.measurement.rounds)
        if facts is not None:
            protocol = row.measurement.protocol
            models = devices.setdefault((protocol.backend, protocol.device, protocol.runtime), {})
            models.setdefault(_without_unit(row.case).id, []).append((row, facts))
    return [_device(*key[1:], models, table) for key, models in devices.items()]


def profile(row: Row) -> UnitProfile | None:
    """What one case's rounds tell; None where they come from no agent."""
    facts = facts_of(row.measurement.rounds)
    return _unit(row, facts) if facts else None


def quartiles_ns(unit: UnitProfile) -> tuple[float, float]:
    """First and third quartile of all counted samples, nanoseconds per inference."""
    rounds = counted_rounds(unit.row.measurement.rounds)
    first, third = np.quantile(np.concatenate([_per_inference(one) for one in rounds]), (0.25, 0.75))
    return float(first), float(third)


def operator_shares(facts: DeviceFacts) -> dict[str, tuple[PlacementShare, ...]]:
    """By kind of operation, constants left out."""
    return {name: found for name, found in by_operator(facts.operations).items() if found}


def block_shares(row: Row, facts: DeviceFacts) -> dict[str, tuple[PlacementShare, ...]]:
    """By the network's blocks, `stages.0.0 (NCB)`, the rest under `''`; empty where no module is told."""
    kinds = row.result.artifact.modules if row.result.artifact else {}
    blocks = {
        name: _block_name(module_at_level(module, _BLOCK_LEVEL), kinds)
        for name, module in facts.modules.items()
    }
    found = by_block(facts.operations, blocks) if blocks else {}
    return {name: shares for name, shares in found.items() if shares}


def median_ns(values: Sequence[int]) -> float | None:
    """Nanoseconds; None without a value."""
    return float(np.median(values)) if values else None


def memory_bytes(facts: DeviceFacts) -> int | None:
    """The largest reading of the process's memory before and after rounds; None where none was told."""
    return max(
        (c.memory_bytes for pair in facts.conditions for c in pair if c.memory_bytes > 0), default=None
    )


def unit_place(unit: str) -> tuple[int, str]:
    """What sorts compute units in Core ML's order, others last."""
    return (COMPUTE_UNITS.index(unit) if unit in COMPUTE_UNITS else len(COMPUTE_UNITS), unit)


def _block_name(block: str, kinds: Mapping[str, str]) -> str:
    return f"{block} ({kinds[block]})" if kinds.get(block, block) != block else block


def _in_plan_order(table: RunTable) -> list[Row]:
    places = {case_id: place for place, case_id in enumerate(table.info.case_ids)}
    return sorted(table.rows, key=lambda row: places.get(row.case.id, len(places)))


def _without_unit(case: Case) -> Case:
    return replace(case, compute_unit="")


def _device(
    told: str,
    runtime: str,
    models: Mapping[str, Sequence[tuple[Row, DeviceFacts]]],
    table: RunTable,
) -> DeviceProfile:
    driver, _, name = told.partition(", ")
    unmeasured = (*table.untimed, *table.failures, *table.pending)
    found = tuple(_model(rows, [r for r in unmeasured if not r.rounds]) for rows in models.values())
    simulated = any(is_simulated(row.result) for rows in models.values() for row, _ in rows)
    return DeviceProfile(name or told, driver, runtime, simulated, found)


def _model(rows: Sequence[tuple[Row, DeviceFacts]], unmeasured: Iterable[CaseResult]) -> ModelOnDevice:
    case = _without_unit(rows[0][0].case)
    units, ordering = _compared([_unit(row, facts) for row, facts in rows])
    missing = [
        (result.case.compute_unit, result.failure.message if result.failure else "not measured yet")
        for result in unmeasured
        if _without_unit(result.case) == case
    ]
    return ModelOnDevice(
        _label(rows[0][0]),
        tuple(sorted(units, key=lambda unit: unit_place(unit.unit))),
        ordering,
        tuple(missing),
    )


def _label(row: Row) -> str:
    """`nextvit_small 224x224 fp16`, and whatever else two cases of a device may differ in."""
    words = settings(row.case)
    names = ["shape", "precision", *(["batch"] if row.case.batch_size != 1 else [])]
    names += [] if row.case.fused else ["fusion"]
    names += ["target", "build options", "runtime options"]
    return " ".join(filter(None, [row.label, *(words[name] for name in names)]))


def _unit(row: Row, facts: DeviceFacts) -> UnitProfile:
    rounds = in_order(counted_rounds(row.measurement.rounds))
    return UnitProfile(row, facts, aggregate(rounds), _within(rounds), _across(rounds))


def _within(rounds: Sequence[Round]) -> Ratio | None:
    """Paired by round: the median of each round's last third over that of its first."""
    long = [one for one in rounds if one.samples_ns.size // 3 >= MIN_THIRD]
    if not long:
        return None
    first = [replace(one, samples_ns=one.samples_ns[: one.samples_ns.size // 3]) for one in long]
    last = [replace(one, samples_ns=one.samples_ns[-(one.samples_ns.size // 3) :]) for one in long]
    return paired_ratio(_measurement(last), _measurement(first))


def _across(rounds: Sequence[Round]) -> Ratio | None:
    """The last third of the rounds over the first, each in order of time; None under three rounds."""
    third = len(rounds) // 3
    return _unpaired(_measurement(rounds[-third:]), _measurement(rounds[:third])) if third else None


def _measurement(rounds: Sequence[Round]) -> Measurement:
    return Measurement(rounds[0].protocol, tuple(rounds))


def _unpaired(over: Measurement, under: Measurement) -> Ratio | None:
    """Of rounds that have no neighbours among each other."""
    found = compare(over, under, paired=False)
    return found.ratio if found else None


def _compared(units: Sequence[UnitProfile]) -> tuple[list[UnitProfile], Ordering]:
    """Ranked among each other, those in doubt left out, and each against the fastest.

    A unit that was taken in another way than the fastest, beyond its name, is not compared.
    """
    fastest_first = sorted(units, key=lambda unit: unit.row.summary.median_ns)
    best = next((unit for unit in fastest_first if not unit.row.serious), fastest_first[0])
    protocol = best.row.measurement.protocol
    alike = {
        unit.unit: Measurement(protocol, unit.row.measurement.rounds)
        for unit in units
        if replace(unit.row.measurement.protocol, compute_unit=protocol.compute_unit) == protocol
    }
    sound = {unit.unit for unit in units if not unit.row.serious}
    ordering = order({name: alike[name] for name in alike if name in sound})
    ranks = ordering.ranks() if len(units) > 1 else {}
    compared = [
        replace(
            unit,
            rank=ranks.get(unit.unit),
            versus_fastest=_unpaired(alike[unit.unit], alike[best.unit])
            if unit is not best and unit.unit in alike
            else None,
        )
        for unit in units
    ]
    return compared, ordering


def _per_inference(taken: Round) -> npt.NDArray[np.float64]:
    return taken.samples_ns / taken.loop_count
