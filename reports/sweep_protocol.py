"""Which cases may stand on one axis: those whose protocols differ only in what settings change.

A number of threads is in the protocol, and so is the type that layers run in: they follow from the case. Any
other difference (a runtime, a clock, what is inside a sample) keeps two cases apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from models.spec import digest
from reports.group_titles import flat
from reports.tables import Row

# Options that runtimes read back, by the setting that they follow from. What one of them may not do is to say
# two things of the same setting.
IMPLIED: Final = {
    "threads": (
        "intra_op_num_threads",
        "INFERENCE_NUM_THREADS",
        "num_threads",
        "allow_spinning",  # `no workers` with one thread
        "pinned_cores",  # as many as there are threads
    ),
    "precision": ("INFERENCE_PRECISION_HINT", "executed_precision", "engine_types", "input_type"),
}
_OPTIONS: Final = frozenset(name for names in IMPLIED.values() for name in names)


def rest_of(row: Row) -> str:
    """A digest of the protocol without what threads and precision say."""
    value = _plain(row)
    options = {name: text for name, text in value["options"].items() if name not in _OPTIONS}
    return digest({**value, "threads": 0, "options": options})


def alike(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows in groups that may share their axes, the largest first, else in the order given."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[rest_of(row)].append(row)
    found = [part for group in groups.values() for part in _consistent(group)]
    return sorted(found, key=lambda part: -len(part))


def differences(groups: Sequence[Sequence[Row]]) -> list[str]:
    """The fields and options of the protocol in which groups of one model differ, by name.

    What threads and precision say differs only where it says two things of the same ones.
    """
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    rows = [row for group in groups for row in group]
    names = dict.fromkeys(name for row in rows for name in _flat(row))
    for row in rows:
        said = _flat(row)
        for name in names:
            of = f"{row.case.threads} {row.case.precision}" if name in _OPTIONS else ""
            told[name, of].add(str(said.get(name, "")))
    return list(dict.fromkeys(name for (name, _), texts in told.items() if len(texts) > 1))


def _consistent(rows: Sequence[Row]) -> list[list[Row]]:
    """Split where one number of threads, or one precision, stands for two ways of running."""
    said: dict[tuple[str, object], tuple[Any, ...]] = {}
    kept: list[Row] = []
    others: list[Row] = []
    for row in rows:
        implied = _implied(row)
        if all(said.get(setting, told) == told for setting, told in implied.items()):
            said |= implied
            kept.append(row)
        else:
            others.append(row)
    return [kept, *(_consistent(others) if others else [])]


def _implied(row: Row) -> dict[tuple[str, object], tuple[Any, ...]]:
    """What the protocol says of the case's threads and of its precision."""
    protocol = row.measurement.protocol
    told = {
        name: tuple(protocol.options.get(option, "") for option in names) for name, names in IMPLIED.items()
    }
    return {
        ("threads", row.case.threads): (protocol.threads, *told["threads"]),
        ("precision", row.case.precision): told["precision"],
    }


def _flat(row: Row) -> dict[str, Any]:
    """Fields and options side by side; the number of threads is the case's."""
    return {name: told for name, told in flat(row.measurement.protocol).items() if name != "threads"}


def _plain(row: Row) -> dict[str, Any]:
    return row.measurement.protocol.to_dict()
