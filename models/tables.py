"""Plug points: a literal table of `name -> "module:object"`, and what other packages register beside it.

The four tables are `models.MODELS`, `converters.CONVERTERS`, `runners.RUNNERS` and `device_agents.DRIVERS`.
A package outside this project adds to one through a Python entry point in the group `deploybench.models`,
`deploybench.converters`, `deploybench.runners` or `deploybench.drivers`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


class UnknownNameError(ValueError):
    """A name that no table holds; the message lists the nearest known ones."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean X or Y?` where something is near, else the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(known[:20])
    return f"known: {shown}{', …' if len(known) > 20 else ''}"


def names(table: Mapping[str, str], group: str) -> tuple[str, ...]:
    """Every name of a plug point: the literal table's, then the entry points'."""
    return tuple(dict.fromkeys((*table, *(point.name for point in _entry_points(group)))))


def lookup(table: Mapping[str, str], group: str, name: str) -> Any:
    """The object behind a name, imported now.

    Raises UnknownNameError with the nearest known names.
    """
    if name in table:
        return resolve_name(table[name])
    for point in _entry_points(group):
        if point.name == name:
            return point.load()
    kind = {"runners": "backend", "drivers": "device driver"}.get(group, group.removesuffix("s"))
    raise UnknownNameError(f"unknown {kind} '{name}': {suggest(name, names(table, group))}")


def _entry_points(group: str) -> EntryPoints:
    # Imported here: it takes longer than all else in this package, and every measuring process would wait.
    from importlib.metadata import entry_points

    return entry_points(group=f"deploybench.{group}")
