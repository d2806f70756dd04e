"""What a device told of a case beside its samples: loads, conditions around rounds, the compute plan.

It stands in the rounds' environment as an agent or an importer wrote it, and may have come with a file from
anywhere: every value is checked here, and a part that no agent can have written is named, not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from device_agents.bodies import MAX_OPERATIONS, PLACES, Conditions, Operation
from device_agents.forms import Form, FormError, whole
from device_agents.job import plain
from device_agents.placement import PlacementShare, shares
from runners.measurement import Round

T = TypeVar("T")

MAX_LOADS = 100_000
NEURAL_ENGINE = "neural_engine"
ALLOWS_NEURAL_ENGINE = ("cpuAndNeuralEngine", "all")
HOT = ("serious", "critical")
_LOADS = ("compile_ns", "cold_load_ns", "warm_load_ns")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Of one case: durations as they were told, conditions before and after each round in order of time.

    `conditions` is empty where a tool reads none. `shares` is the placement by device, `operations` its
    operations, `modules` the module path by the name of an operation's output, each empty where not told.
    `unreadable` names the parts that are not of the form in which agents write them.
    """

    compile_ns: tuple[int, ...]
    cold_load_ns: tuple[int, ...]
    warm_load_ns: tuple[int, ...]
    conditions: tuple[tuple[Conditions, Conditions], ...]
    operations: tuple[Operation, ...]
    modules: Mapping[str, str]
    shares: tuple[PlacementShare, ...]
    unreadable: tuple[str, ...]


def facts_of(rounds: Sequence[Round]) -> DeviceFacts | None:
    """What was told with these rounds; None where none of them comes from a device's agent or importer.

    Loads are those of the last round's list, which an agent appends to from round to round.
    """
    told = [one for one in in_order(rounds) if isinstance(one.environment.get("device"), Mapping)]
    if not told:
        return None
    device: Mapping[str, Any] = told[-1].environment["device"]
    problems: list[str] = []
    loads = {name: _checked(device, name, _durations, problems) or () for name in _LOADS}
    placed = next((one.environment for one in told if one.environment.get("operations")), {})
    found = _checked(placed, "operations", _operations, problems) or ()
    operations = tuple(operation for operation, _ in found)
    conditions = [_conditions(one, problems) for one in told]
    return DeviceFacts(
        **loads,
        conditions=tuple(pair for pair in conditions if pair is not None),
        operations=operations,
        modules={operation.name: module for operation, module in found if module},
        shares=shares(operations) if operations else (_checked(device, "placement", _shares, problems) or ()),
        unreadable=tuple(dict.fromkeys(problems)),
    )


def in_order(rounds: Sequence[Round]) -> list[Round]:
    """By the time at which they began; a tool that tells none keeps the order of its rounds."""
    return sorted(rounds, key=lambda one: (one.started_at_ns, one.round_index))


def cost_share(found: Sequence[PlacementShare], place: str) -> float | None:
    """The share of all estimated cost, 0 to 1, that lies at a place; None where no cost is told."""
    total = sum(share.cost_ppb for share in found)
    return sum(s.cost_ppb for s in found if s.place == place) / total if total else None


def cost_shares(found: Sequence[PlacementShare]) -> dict[str, float]:
    """By place, those that have any; empty where no cost is told."""
    return {share.place: part for share in found if (part := cost_share(found, share.place))}


def operation_share(found: Sequence[PlacementShare], place: str) -> float | None:
    """The share of operations that prefer a place; None without operations."""
    total = sum(share.operations for share in found)
    return sum(s.operations for s in found if s.place == place) / total if total else None


def off_neural_engine(facts: DeviceFacts, compute_unit: str) -> bool:
    """Was the Neural Engine allowed, and lies most of the estimated cost elsewhere?

    Of operations, where the plan estimates no cost.
    """
    share = cost_share(facts.shares, NEURAL_ENGINE)
    if share is None:
        share = operation_share(facts.shares, NEURAL_ENGINE)
    return compute_unit in ALLOWS_NEURAL_ENGINE and share is not None and share < 0.5


def _checked(
    table: Mapping[str, Any], name: str, read: Callable[[object], T], problems: list[str]
) -> T | None:
    """What stands under a name, None where nothing does; what cannot be read is entered as a problem."""
    if name not in table:
        return None
    try:
        return read(plain(table[name]))
    except FormError:
        problems.append(name.removesuffix("_ns").replace("_", " "))
        return None


def _durations(value: object) -> tuple[int, ...]:
    return whole({"ns": value}, "durations", lambda form: form.integers("ns", most=MAX_LOADS, least=1))


def _conditions(taken: Round, problems: list[str]) -> tuple[Conditions, Conditions] | None:
    """Before and after a round; None for a tool that reads neither."""

    def read(value: object) -> Conditions:
        return whole(value, "conditions", Conditions.of)

    before = _checked(taken.environment, "before", read, problems)
    after = _checked(taken.environment, "after", read, problems)
    return (before, after) if before and after else None


def _operations(value: object) -> tuple[tuple[Operation, str], ...]:
    """Every operation, and the module that it belongs to where the package told it."""

    def read(form: Form) -> tuple[tuple[Operation, str], ...]:
        entries = form.forms("operations", _operation, most=MAX_OPERATIONS)
        return tuple(entries)

    return whole({"operations": value}, "placement", read)


def _operation(form: Form) -> tuple[Operation, str]:
    return Operation.of(form), form.text("module", most=512) if form.has("module") else ""


def _shares(value: object) -> tuple[PlacementShare, ...]:
    def read(form: Form) -> PlacementShare:
        return PlacementShare(
            form.one_of("place", PLACES), form.integer("operations"), form.integer("cost_ppb")
        )

    return whole({"shares": value}, "placement", lambda form: form.forms("shares", read, most=len(PLACES)))
