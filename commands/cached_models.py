"""What the artifact cache holds of every model, by kind of file and the backends that load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from converters.cache import MANIFEST
from converters.cache_trim import Entry
from runners import BACKENDS


@dataclass(frozen=True, slots=True)
class Holding:
    """The artifacts of one model and kind; `model` is `?` where a manifest cannot be read."""

    model: str
    kind: str
    backends: tuple[str, ...]
    count: int
    size_bytes: int
    last_used_ns: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def holdings(entries: Sequence[Entry]) -> list[Holding]:
    """One for every model and kind of file, the largest first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_named(entry), []).append(entry)
    found = [_holding(model, kind, members) for (model, kind), members in groups.items()]
    return sorted(found, key=lambda row: (-row.size_bytes, row.model, row.kind))


def _holding(model: str, kind: str, members: Sequence[Entry]) -> Holding:
    files = {inode: size for entry in members for inode, size in entry.files.items()}
    backends = tuple(name for name, info in BACKENDS.items() if info.artifact_kind == kind)
    last_used_ns = max(entry.last_used_ns for entry in members)
    return Holding(model, kind, backends, len(members), sum(files.values()), last_used_ns)


def _named(entry: Entry) -> tuple[str, str]:
    """(model, kind) as the manifest tells them; whether it is damaged is found out when it is used."""
    try:
        artifact = json.loads((entry.folder / MANIFEST).read_bytes())["artifact"]
        return str(artifact["model"]["name"]), str(artifact["kind"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "?", "?"
