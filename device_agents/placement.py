"""Where Core ML's plan puts a network: shares of operations and of estimated cost. No share is a time."""

from __future__ import annotations

from collections.abc import Sequence
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
    operations: Sequence[Operation], blocks: dict[str, str]
) -> dict[str, tuple[PlacementShare, ...]]:
    """Shares per block, where `blocks` names the block of an operation's output; the others under `''`."""
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(blocks.get(operation.name, ""), []).append(operation)
    return {block: shares(group) for block, group in groups.items()}
