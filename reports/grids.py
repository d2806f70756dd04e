"""Tables as plain values: what a cell says, what it sorts by, and how it looks. No markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reports import formatting as fmt
from reports.quantiles import Quantile


@dataclass(frozen=True)
class Cell:
    """What a table cell says, what it sorts by (None: last) and how it looks."""

    text: str
    sort: float | str | None = None
    css: str = ""
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A table row; `keys` are what the page can filter by."""

    cells: tuple[Cell, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    css: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: heads are (text, is it numeric, explanation)."""

    caption: str
    heads: tuple[tuple[str, bool, str], ...]
    lines: tuple[Line, ...]


def facts(caption: str, value: Mapping[str, Any]) -> Grid:
    """A nested plain value as a two-column table, one line per leaf."""
    lines = tuple(Line((Cell(name, css="name"), Cell(text))) for name, text in _flattened(value))
    return Grid(caption, (("", False, ""), ("", False, "")), lines)


def number(value: float | None, text: Callable[[float], str]) -> Cell:
    """A number by its formatter, sorted by value; a dash where there is none."""
    return Cell(fmt.MISSING) if value is None else Cell(text(value), value)


def quantile(found: Quantile | None, scale: float, *, loops: int) -> Cell:
    """Its interval is in the title: a tail's is wide, often open above. `loops` inferences are a sample."""
    if found is None:
        why = f"a sample holds {loops} inferences, so no tail is known" if loops > 1 else ""
        return Cell(fmt.MISSING, title=why)
    told = f"95 % interval: {fmt.quantile_interval(found.low_ns, found.high_ns)}"
    if found.high_ns is None:
        told += "; the samples amount to too few independent ones for an upper end"
    return Cell(fmt.significant(found.value_ns / scale, 4), found.value_ns, title=told)


def _flattened(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(item, Mapping):
            lines += _flattened(item, f"{name}: ")
        elif item not in (None, "", []):
            lines.append(_leaf(name, str(key), item))
    return lines


def _leaf(name: str, key: str, item: Any) -> tuple[str, str]:
    """Known suffixes become units; lists become one line."""
    if isinstance(item, bool):
        return name, "yes" if item else "no"
    if key.endswith("_bytes") and isinstance(item, int):
        return name.removesuffix(" bytes"), fmt.size(item)
    if key.endswith("_ns") and isinstance(item, int):
        return name.removesuffix(" ns"), fmt.duration(item)
    if key.startswith("khz") and isinstance(item, int):
        return name.replace("khz", "clock"), f"{fmt.significant(item / 1e6, 3)} GHz"
    if isinstance(item, list | tuple):
        return name, ", ".join(str(part) for part in item)
    return name, str(item)
