"""The tables of a device's section: compute units side by side, loads, drift, placement. Plain cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from device_agents.placement import PlacementShare
from reports import device_text as text
from reports import formatting as fmt
from reports.device_facts import cost_share, operation_share
from reports.device_profile import (
    DeviceProfile,
    ModelOnDevice,
    UnitProfile,
    block_shares,
    median_ns,
    memory_bytes,
    operator_shares,
    quartiles_ns,
    unit_place,
)
from reports.grids import Cell, Grid, Line, number, quantile

_MAIN_PLACES = ("neural_engine", "gpu", "cpu")
_BENCH = "mean of 20 rounds of 50 predictions, of all 1000 the 10 lowest and 10 highest left out"
Head = tuple[str, bool, str]


def units(model: ModelOnDevice, unit: tuple[float, str]) -> Grid:
    """One model's compute units side by side; a unit without a number keeps its line and says why."""
    heads: tuple[Head, ...] = (
        ("Compute unit", False, ""),
        (f"Median, {unit[1]}", True, "across rounds"),
        ("95 %", True, "half width of the interval across rounds"),
        ("Over the fastest", True, "ratio of medians with its 95 % interval"),
        (f"Quartiles, {unit[1]}", True, "of all counted samples"),
        (f"p90, {unit[1]}", True, "from 64 samples of one prediction each"),
        (f"p99, {unit[1]}", True, "from 662 samples of one prediction each"),
        (f"ModelBench, {unit[1]}", True, _BENCH),
        ("Samples", True, "rounds × samples per round"),
        ("Flags", False, ""),
    )
    lines = {one.unit: _unit_line(one, unit[0]) for one in model.units}
    for name, why in model.missing:
        cells = [Cell(name, css="name"), *[Cell(fmt.MISSING)] * (len(heads) - 2), Cell(why, css="bad")]
        lines[name] = Line(tuple(cells), css="missing")
    ordered = tuple(lines[name] for name in sorted(lines, key=unit_place))
    return Grid("Latency by compute unit", heads, ordered)


def loads(device: DeviceProfile) -> Grid:
    """Medians, each with the number of values that it is of; a dash where the tool tells none."""
    heads: tuple[Head, ...] = (
        ("Model and compute unit", False, ""),
        ("Compile", True, "on the device; median (number of values)"),
        ("Cold load", True, "the first load after compiling; median (number of values)"),
        ("Warm load", True, "every later load; median (number of values)"),
        ("Memory", True, "largest reading of the process before and after rounds, none during one"),
    )
    lines = []
    for model, unit in device.units:
        facts, footprint = unit.facts, memory_bytes(unit.facts)
        lines.append(
            Line(
                (
                    _name(device, model, unit),
                    *(_times(v) for v in (facts.compile_ns, facts.cold_load_ns, facts.warm_load_ns)),
                    Cell(fmt.MISSING) if footprint is None else Cell(fmt.size(footprint), footprint),
                )
            )
        )
    return Grid("Medians, with the number of values in brackets", heads, tuple(lines))


def drift(device: DeviceProfile) -> Grid:
    """How the latency moved, beside what the device told of its state."""
    heads: tuple[Head, ...] = (
        ("Model and compute unit", False, ""),
        ("Within rounds", True, "last third of a round's samples over its first, with a 95 % interval"),
        ("Over the rounds", True, "last third of the rounds over the first"),
        ("Thermal state", False, "the worse of the readings before and after each round"),
        ("Low-power mode", False, ""),
        ("Battery", False, "before the first round and after the last"),
    )
    lines = tuple(
        Line(
            (
                _name(device, model, unit),
                Cell(text.change(unit.within_rounds)),
                Cell(text.change(unit.across_rounds)),
                Cell(text.thermal(unit.facts)),
                Cell(text.low_power(unit.facts)),
                Cell(text.battery(unit.facts)),
            )
        )
        for model, unit in device.units
    )
    return Grid("The last third against the first third", heads, lines)


def placement(device: DeviceProfile) -> Grid | None:
    """Shares by device; None where no plan was told."""
    placed = [(model, unit) for model, unit in device.units if unit.facts.shares]
    if not placed:
        return None
    found = [unit.facts.shares for _, unit in placed]
    lines = [
        Line((_name(device, model, unit), *_counts(unit.facts.shares), *_pairs(unit.facts.shares, found)))
        for model, unit in placed
    ]
    heads: tuple[Head, ...] = (
        ("Model and compute unit", False, ""),
        ("Operations", True, "without constants"),
    )
    return Grid("Shares by Core ML's plan", (*heads, *_place_heads(found)), tuple(lines))


def placement_details(unit: UnitProfile) -> list[Grid]:
    """By block, where the package tells its modules, and by kind of operation."""
    facts = unit.facts
    by_block = block_shares(unit.row, facts)
    named = {name or "no module told": shares for name, shares in by_block.items()}
    found = [("By block", "Block", named), ("By kind of operation", "Operation", operator_shares(facts))]
    return [_grouped(caption, head, groups, facts.shares) for caption, head, groups in found if groups]


def _unit_line(one: UnitProfile, scale: float) -> Line:
    s = one.row.summary
    low, high = quartiles_ns(one)
    return Line(
        (
            Cell(one.unit, css="name"),
            Cell(fmt.significant(s.median_ns / scale, fmt.digits_for(s.median_ns, s.half_width)), s.median_ns,
                 "doubtful" if one.row.serious else "strong"),
            Cell(fmt.plus_minus(s.half_width), s.half_width),
            _versus(one),
            Cell(f"{fmt.significant(low / scale, 4)} – {fmt.significant(high / scale, 4)}", low),
            quantile(s.p90, scale, loops=max(s.loop_counts)),
            quantile(s.p99, scale, loops=max(s.loop_counts)),
            _bench(one, scale),
            Cell(f"{s.rounds} × {s.samples // s.rounds}", s.samples),
            Cell(", ".join(flag.label for flag in one.row.flags), css="flagged" if one.row.flags else "",
                 title=" ".join(flag.advice for flag in one.row.flags)),
        )
    )  # fmt: skip


def _versus(one: UnitProfile) -> Cell:
    ratio = one.versus_fastest
    if ratio is None:
        return Cell("fastest" if one.fastest else fmt.MISSING, 1.0 if one.fastest else None)
    tie = "a tie: inside the noise" if one.fastest else ""
    return Cell(
        fmt.ratio_interval(ratio.value, ratio.low, ratio.high), ratio.value, "tie" if tie else "", tie
    )


def _bench(one: UnitProfile, scale: float) -> Cell:
    bench = one.bench
    if bench is None:
        loops = max(one.row.summary.loop_counts)
        why = "samples of several predictions cannot be trimmed" if loops > 1 else "too few samples"
        return Cell(fmt.MISSING, title=why)
    value = fmt.significant(bench.mean_ns / scale, 4)
    if bench.complete:
        return Cell(value, bench.mean_ns)
    return Cell(f"{value} *", bench.mean_ns, title=f"of {bench.used} predictions, not of 20 rounds of 50")


def _times(values: Sequence[int]) -> Cell:
    median = median_ns(values)
    return Cell(text.times(values, median), median, title=text.raw(values) if len(values) > 1 else "")


def _name(device: DeviceProfile, model: ModelOnDevice, unit: UnitProfile) -> Cell:
    several = len(device.models) > 1
    return Cell(
        f"{model.label}, {unit.unit}" if several else unit.unit, css="name", title=unit.row.case.label
    )


def _places(found: Sequence[Sequence[PlacementShare]]) -> tuple[str, ...]:
    """The three devices, and what the plan leaves open where it does."""
    told = {share.place for shares in found for share in shares}
    return (*_MAIN_PLACES, *(place for place in text.PLACES if place not in _MAIN_PLACES and place in told))


def _place_heads(found: Sequence[Sequence[PlacementShare]]) -> tuple[Head, ...]:
    return tuple(
        head
        for place in _places(found)
        for head in (
            (f"{text.PLACES[place]}, operations", True, "share of the line's operations that prefer it"),
            (f"{text.PLACES[place]}, estimated cost", True, "share of the line's estimated cost; no time"),
        )
    )


def _counts(shares: Sequence[PlacementShare]) -> list[Cell]:
    total = sum(share.operations for share in shares)
    return [Cell(str(total), total)]


def _pairs(shares: Sequence[PlacementShare], found: Sequence[Sequence[PlacementShare]]) -> list[Cell]:
    cells = []
    for place in _places(found):
        for share in (operation_share(shares, place), cost_share(shares, place)):
            cells.append(Cell(text.percent(share), share) if share else Cell(fmt.MISSING, 0.0))
    return cells


def _grouped(
    caption: str,
    head: str,
    groups: Mapping[str, Sequence[PlacementShare]],
    whole: Sequence[PlacementShare],
) -> Grid:
    """One line per group, the costliest first; its cost is a share of the whole network's."""
    total = sum(share.cost_ppb for share in whole)
    costs = {name: sum(share.cost_ppb for share in shares) for name, shares in groups.items()}
    ordered = sorted(groups, key=lambda name: -costs[name]) if head == "Operation" else list(groups)
    found = list(groups.values())
    lines = tuple(
        Line(
            (
                Cell(name, css="name"),
                *_counts(groups[name]),
                number(costs[name] / total if total else None, text.percent),
                *_pairs(groups[name], found),
            )
        )
        for name in ordered
    )
    heads: tuple[Head, ...] = (
        (head, False, ""),
        ("Operations", True, "without constants"),
        ("Of all estimated cost", True, "the group's share of the network's estimated cost; no time"),
    )
    return Grid(caption, (*heads, *_place_heads(found)), lines)
