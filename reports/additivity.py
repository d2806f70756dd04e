"""Do the parts add up: the sum of separately measured parts against the whole network, and what is left over.

Which parts a network has, and how often, the run's plan read from the model. Sum and whole are compared round
by round, so that both were taken within one pass, and by windows where a part took turns with the whole; the
interval is that of any median, across rounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import formatting as fmt
from reports.flags import doubts
from reports.grids import Cell, Grid, Line, number
from reports.intervals import median_interval
from reports.layer_names import module_paths
from reports.layers import mean_layers
from reports.rounds import logs_by_round, round_logs
from reports.sections import Section
from reports.tables import Row, RunTable, settings

_PLACES = 2  # module paths that a row names


@dataclass(frozen=True)
class Part:
    """One part, measured alone: `count` times in the network, at `places`.

    `inside_ns` is what all of them take together inside the network, by its profile; None without one.
    """

    row: Row
    places: tuple[str, ...]
    inside_ns: float | None

    @property
    def count(self) -> int:
        return len(self.places)

    @property
    def together_ns(self) -> float:
        return self.count * self.row.summary.median_ns


@dataclass(frozen=True)
class Balance:
    """A network beside the sum of its parts.

    `total_ns` is the sum over `rounds` rounds that all have; `ratio` of sum to whole, with its interval.
    """

    whole: Row
    parts: tuple[Part, ...]
    rounds: int
    total_ns: float
    ratio: tuple[float, float | None, float | None]


def balances(table: RunTable) -> list[Balance]:
    """Of every network whose parts all share rounds with it."""
    rows = {row.case.id: row for row in table.rows}
    found = []
    for whole_id, parts in _planned(table).items():
        if whole_id in rows and all(part_id in rows for _, part_id in parts):
            balance = _balance(rows[whole_id], parts, rows)
            found += [balance] if balance else []
    return found


def missing(table: RunTable) -> list[str]:
    """One sentence for every network that was planned with its parts and cannot be compared with them."""
    rows = {row.case.id: row for row in table.rows}
    lines = []
    for whole_id, parts in _planned(table).items():
        absent = {part_id for _, part_id in parts} - set(rows)
        if whole_id in rows and absent:
            lines.append(
                f"{rows[whole_id].label} ({_setting(rows[whole_id])}) is not compared with its parts:"
                f" {len(absent)} of {fmt.count(len({part for _, part in parts}), 'case')} have no number."
            )
    return lines


def section(table: RunTable) -> Section | None:
    """A table per network; None where no network was to be measured in parts."""
    found, lacking = balances(table), missing(table)
    if not (found or lacking):
        return None
    return Section(
        "additivity",
        "Parts",
        "Do the parts add up?",
        (*(sentence(one) for one in found), *lacking),
        grids=tuple(_grid(one) for one in found),
        notes=(
            "Every part was built with the network's own shapes and measured alone in the same run, in rounds"
            " between those of the network. What a residual can hold: alone, a part finds its weights and"
            " inputs in nearer caches; in the network, a runtime fuses and keeps layouts across the borders"
            " of parts. Inside the network is its profile's one inference, without layers of no part; a layer"
            " that the runtime fused across a border counts for the first of the parts. Shares are of medians"
            " over all rounds, the residual of the rounds in common, so they need not add up to all of it.",
        ),
    )


def headline(table: RunTable) -> str:
    """The finding of a run that measured networks in parts; empty for another, where something is fastest."""
    return " ".join(sentence(one) for one in balances(table))


def sentence(one: Balance) -> str:
    """`nextvit_small takes 58.2 ms; its 21 parts alone add up to 56.1 ms: 3.6 % less [4.1 %, 3.1 %].`"""
    whole = one.whole.summary
    value, low, high = one.ratio
    words = fmt.percent(abs(value - 1))
    side = "more" if value > 1 else "less"
    span = "" if low is None or high is None else f", 95 % interval {_signed(low - 1)} to {_signed(high - 1)}"
    return (
        f"{one.whole.label} ({_setting(one.whole)}) takes {fmt.latency(whole.median_ns, whole.half_width)};"
        f" its {sum(part.count for part in one.parts)} parts, each measured alone, add up to"
        f" {fmt.duration(one.total_ns)}: {words} {side}{span}, over {fmt.count(one.rounds, 'round')}."
        f"{_doubt(one)}"
    )


def _doubt(one: Balance) -> str:
    doubtful = [row for row in (one.whole, *(part.row for part in one.parts)) if row.serious]
    words = doubts(flag for row in doubtful for flag in row.flags)
    number = f"{len(doubtful)} of these {1 + len(one.parts)} cases"
    return f" {number} carry a flag that puts their numbers in doubt ({words})." if doubtful else ""


def _planned(table: RunTable) -> dict[str, list[tuple[str, str]]]:
    """(module path, case id) of the parts by their network's case id; others' records may hold anything."""
    planned = table.info.config.get("parts")
    entries: dict[str, Any] = dict(planned) if isinstance(planned, Mapping) else {}
    return {
        whole_id: [(path, part_id) for path, part_id in parts]
        for whole_id, parts in entries.items()
        if _are_places(parts)
    }


def _are_places(value: object) -> bool:
    """Is it a list of pairs of text, not empty?"""
    if not isinstance(value, list) or not value:
        return False
    pairs = [pair for pair in value if isinstance(pair, list | tuple) and len(pair) == 2]
    return len(pairs) == len(value) and all(isinstance(text, str) for pair in pairs for text in pair)


def _balance(whole: Row, parts: Sequence[tuple[str, str]], rows: Mapping[str, Row]) -> Balance | None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, part_id in parts:
        places[part_id].append(path)
    of_whole = {part_id: logs_by_round(rows[part_id].measurement, whole.measurement) for part_id in places}
    common = sorted(set.intersection(*map(set, of_whole.values())))
    if not common:
        return None
    whole_logs = round_logs(whole.measurement)
    shares = np.log([sum(len(at) * math.exp(of_whole[i][r]) for i, at in places.items()) for r in common])
    inside = _inside(whole, [path for path, _ in parts])
    return Balance(
        whole,
        tuple(
            Part(rows[part_id], tuple(at), sum(inside[path] for path in at) if inside else None)
            for part_id, at in places.items()
        ),
        len(common),
        median_interval(shares + np.array([whole_logs[r] for r in common]))[0],
        median_interval(shares),
    )


def _inside(whole: Row, paths: Sequence[str]) -> dict[str, float]:
    """Nanoseconds of each part inside the profiled network, by path; empty without a profile."""
    layers = mean_layers(whole)
    found = dict.fromkeys(paths, 0.0) if layers else {}
    for layer, ns in layers.items():
        modules = module_paths(layer)
        at = next((p for p in paths if modules and f"{modules[0]}.".startswith(f"{p}.")), None)
        if at is not None:
            found[at] += ns
    return found


def _grid(one: Balance) -> Grid:
    heads = (
        ("Part", False, ""),
        ("Count", True, ""),
        ("Alone", True, "median of one, measured alone"),
        ("Count × alone", True, ""),
        ("Share of the sum", True, ""),
        ("Inside the network", True, "all of them, by the network's own profile"),
        ("At", False, "module paths in the network"),
    )
    lines = [_line(part, one.total_ns) for part in one.parts]
    value, low, high = one.ratio
    whole = one.whole.summary
    left = "" if low is None or high is None else f"{_signed(low - 1)} to {_signed(high - 1)}"
    lines += [
        _last("Sum of the parts", fmt.duration(one.total_ns), ""),
        _last(f"{one.whole.label}, whole", fmt.duration(whole.median_ns), fmt.plus_minus(whole.half_width)),
        _last("Residual: sum less whole", _signed(value - 1), left),
    ]
    return Grid(f"{one.whole.label}, {_setting(one.whole)}: its parts", heads, tuple(lines))


def _line(part: Part, total_ns: float) -> Line:
    at = ", ".join(part.places[:_PLACES]) + (", …" if part.count > _PLACES else "")
    return Line(
        (
            Cell(_name(part.row), css="name", title=part.row.case.label),
            Cell(str(part.count), part.count),
            Cell(fmt.latency(part.row.summary.median_ns, part.row.summary.half_width)),
            Cell(fmt.duration(part.together_ns), part.together_ns),
            Cell(fmt.percent(part.together_ns / total_ns), part.together_ns / total_ns),
            number(part.inside_ns, fmt.duration),
            Cell(at, title=", ".join(part.places)),
        )
    )


def _last(name: str, value: str, note: str) -> Line:
    cells = (Cell(name, css="name"), Cell(""), Cell(note), Cell(value), Cell(""), Cell(""), Cell(""))
    return Line(cells, css="total")


def _name(row: Row) -> str:
    """`ncb 56x56x96 stride 2 to 192 channels`; the shape goes without saying where the model says it."""
    return f"{row.label} {settings(row.case)['shape']}"


def _setting(row: Row) -> str:
    words = settings(row.case)
    return ", ".join(words[name] for name in ("backend", "precision", "threads") if words[name])


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else '−'}{fmt.percent(abs(share))}"
