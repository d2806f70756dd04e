"""Where Core ML's plan puts a network: shares of operations and of estimated cost. No share is a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from device_agents.bodies import NOT_KNOWN, PLACES, Operation


@dataclass(frozen=True, slots=True)
class PlacementShare:
    """Of one device: how many operations prefer it, and the estimated cost of those, in parts per billion."""

    place: str
    operations: int
    cost_ppb: int


def shares(operations: Sequence[Operation]) -> tuple[PlacementShare, ...]:
    """By place, the Neural Engine first. Constants, which have no cost and no place, are not counted."""
    counted = [op for op in operations if op.preferred != "unknown" or op.cost_ppb != NOT_KNOWN]
    found = []
    for place in PLACES:
        here = [op for op in counted if op.preferred == place]
        if here:
            cost = sum(op.cost_ppb for op in here if op.cost_ppb != NOT_KNOWN)
            found.append(PlacementShare(place, len(here), cost))
    return tuple(found)


def left_neural_engine(operations: Sequence[Operation], compute_unit: str) -> bool:
    """Was the Neural Engine allowed, and does the plan put nothing there? Then it fell back, silently."""
    allowed = compute_unit in ("cpuAndNeuralEngine", "all")
    found = shares(operations)
    return allowed and bool(found) and all(share.place != "neural_engine" for share in found)


def by_block(
    operations: Sequence[Operation], blocks: Mapping[str, str]
) -> dict[str, tuple[PlacementShare, ...]]:
    """Shares per block, where `blocks` names the block of an operation's output; the others under `''`."""
    return _grouped(operations, lambda operation: blocks.get(operation.name, ""))


def by_operator(operations: Sequence[Operation]) -> dict[str, tuple[PlacementShare, ...]]:
    """Shares per kind of operation: `ios16.conv`, `ios16.softmax`."""
    return _grouped(operations, lambda operation: operation.operator)


def _grouped(
    operations: Sequence[Operation], group_of: Callable[[Operation], str]
) -> dict[str, tuple[PlacementShare, ...]]:
    """In the order in which the groups begin; one of constants alone has no shares."""
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(group_of(operation), []).append(operation)
    return {group: shares(members) for group, members in groups.items()}
