"""What a device told of a case, as plain values for other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from device_agents.placement import PlacementShare
from reports.device_facts import cost_share, operation_share
from reports.device_profile import block_shares, median_ns, memory_bytes, operator_shares, profile
from reports.flags import is_simulated
from reports.tables import Row

_LOADS = ("compile", "cold_load", "warm_load")
_PLACES = ("neural_engine", "gpu", "cpu")


def document(row: Row) -> dict[str, Any] | None:
    """For JSON; None where no agent told anything. A cost is Core ML's estimate, and no time."""
    found = profile(row)
    if found is None:
        return None
    facts = found.facts
    loads = {
        f"{name}{kind}_ns": value
        for name in _LOADS
        for kind, value in (
            ("", list(getattr(facts, f"{name}_ns"))),
            ("_median", median_ns(getattr(facts, f"{name}_ns"))),
        )
    }
    return {
        "compute_unit": found.unit,
        "simulated": is_simulated(row.result),
        **loads,
        "memory_bytes": memory_bytes(facts),
        "conditions": [
            {"before": dataclasses.asdict(before), "after": dataclasses.asdict(after)}
            for before, after in facts.conditions
        ],
        "drift_within_rounds": dataclasses.asdict(found.within_rounds) if found.within_rounds else None,
        "drift_across_rounds": dataclasses.asdict(found.across_rounds) if found.across_rounds else None,
        "modelbench": dataclasses.asdict(found.bench) if found.bench else None,
        "placement": _shares(facts.shares),
        "placement_by_block": _groups(block_shares(row, facts)),
        "placement_by_operator": _groups(operator_shares(facts)),
    }


def columns(row: Row) -> dict[str, Any]:
    """For a table, one value each; empty where no agent told anything."""
    found = profile(row)
    if found is None:
        return {}
    facts = found.facts
    return {
        **{f"{name}_median_ns": median_ns(getattr(facts, f"{name}_ns")) for name in _LOADS},
        "memory_bytes": memory_bytes(facts),
        "modelbench_mean_ns": found.bench.mean_ns if found.bench else None,
        "modelbench_complete": found.bench.complete if found.bench else None,
        "drift_within_rounds_ratio": found.within_rounds.value if found.within_rounds else None,
        "drift_across_rounds_ratio": found.across_rounds.value if found.across_rounds else None,
        **{f"{place}_operation_share": operation_share(facts.shares, place) for place in _PLACES},
        **{f"{place}_estimated_cost_share": cost_share(facts.shares, place) for place in _PLACES},
    }


def _shares(found: Sequence[PlacementShare]) -> list[dict[str, Any]]:
    return [
        {
            "place": share.place,
            "operations": share.operations,
            "operation_share": operation_share(found, share.place),
            "estimated_cost_share": cost_share(found, share.place),
        }
        for share in found
    ]


def _groups(found: Mapping[str, Sequence[PlacementShare]]) -> list[dict[str, Any]]:
    """The cost of a group is in parts per billion of the network's."""
    return [
        {
            "name": name,
            "estimated_cost_ppb": sum(share.cost_ppb for share in shares),
            "placement": _shares(shares),
        }
        for name, shares in found.items()
    ]
