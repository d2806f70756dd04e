"""Where the time goes: a runtime's profile by layer, summed up by the network's modules and their kinds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.layer_names import OTHER, kind_of, modules_at_level, operator_of
from reports.rounds import counted_rounds
from reports.tables import Row, RunTable
from runners.measurement import BETWEEN_LAYERS, BY_NEIGHBOURS

_SMALL = 0.005  # shares below are summed up in sentences
_SLOWEST = 10
_COLUMNS = 9  # kinds that have a column of their own; the networks of one run may have dozens
_REST = "the rest"


@dataclass(frozen=True)
class Share:
    """`ns` of one inference that a kind or a module takes, and the `share` of all layers' time."""

    name: str
    ns: float
    share: float
    layers: int


@dataclass(frozen=True)
class Profile:
    """One case's profile, the mean over its rounds: by kind, by first- and second-level module, by layer.

    `operators` are empty where layers are not named after theirs; `measured_ns` is the timed median, and
    `placed` the share of layers that no name places but their neighbours'.
    """

    label: str
    total_ns: float
    measured_ns: float
    placed: float
    kinds: tuple[Share, ...]
    modules: tuple[Share, ...]
    submodules: tuple[Share, ...]
    operators: tuple[Share, ...]
    slowest: tuple[Share, ...]


def profile(row: Row) -> Profile | None:
    """A case's profile, called by its row's label; None where its runtime took none."""
    layers = mean_layers(row)
    if not layers:
        return None
    modules = row.result.artifact.modules if row.result.artifact else {}
    total_ns = sum(layers.values())
    by_operator = all(operator_of(name) or name == BETWEEN_LAYERS for name in layers)
    placed_ns = sum(ns for name, ns in layers.items() if BY_NEIGHBOURS in name)
    return Profile(
        row.label,
        total_ns,
        row.summary.median_ns,
        placed_ns / total_ns if total_ns else 0.0,
        _shares(layers, lambda name: kind_of(name, modules)),
        _shares(layers, lambda name: modules_at_level(name, 1)),
        _shares(layers, lambda name: modules_at_level(name, 2)),
        _shares(layers, lambda name: operator_of(name) or name) if by_operator else (),
        _shares(layers, lambda name: name)[:_SLOWEST],
    )


def mean_layers(row: Row) -> dict[str, float]:
    """Nanoseconds by layer, the mean over the rounds that count and have a profile; empty where none has."""
    return _mean(one.layers for one in counted_rounds(row.measurement.rounds) if one.layers)


def profiles(table: RunTable) -> list[tuple[Row, Profile]]:
    """Of every row that has one; where several groups have some, each is called by its group too."""
    found = [(row, f.title, one) for f in table.facets for row in f.rows if (one := profile(row))]
    several = len({title for _, title, _ in found}) > 1
    return [
        (row, replace(one, label=f"{one.label}, {title}") if several else one) for row, title, one in found
    ]


def sentence(found: Profile) -> str:
    """`NCB 61 %, NTB 30 %, patch embedding 5 %, stem 3 %, head 1 %`, the largest first."""
    shown = [share for share in found.kinds if share.share >= _SMALL]
    rest = sum(share.share for share in found.kinds if share.share < _SMALL)
    words = [f"{share.name} {_percent(share.share)}" for share in shown]
    return ", ".join([*words, f"less {_percent(rest)}"] if rest >= _SMALL else words)


def notes(table: RunTable, found: Sequence[tuple[Row, Profile]]) -> list[str]:
    """What cannot be read off the shares: who was placed by neighbours, and whose profile failed."""
    placed = [(one.placed, one.label) for _, one in found if one.placed >= _SMALL]
    errors = Counter(
        str(one.environment["layers_error"])
        for row in table.rows
        for one in row.measurement.rounds
        if "layers_error" in one.environment
    )
    lines = [f"No profile: {fmt.harmless(text)} ({fmt.count(n, 'round')})." for text, n in errors.items()]
    if placed:
        share, label = max(placed)
        lines.append(
            "Layers that the runtime made or put in have no module's name. They count for the module that the"
            f" layers before and after them share, if any: at most {_percent(share)} of the time ({label})."
        )
    return lines


def kinds_grid(found: Sequence[tuple[Row, Profile]]) -> Grid | None:
    """A line per case, a column per kind of module; the smaller kinds of many share a column."""
    if not found:
        return None
    totals: dict[str, float] = defaultdict(float)
    for _, one in found:
        for share in one.kinds:
            totals[share.name] += share.share
    names = sorted(totals, key=lambda name: (name == OTHER, -totals[name]))
    shown = names if len(names) <= _COLUMNS + 1 else names[:_COLUMNS]
    rest = [name for name in names if name not in shown]
    heads = (
        ("Case", False, ""),
        ("Median", True, "as timed, without the profile"),
        ("Sum of layers", True, "of the profiled inference"),
        ("Sum / median", True, "above 1: what taking the profile costs, and disturbance of the one round"),
        *((name, True, "share of the layers' time") for name in shown),
        *(((_REST, True, ", ".join(rest)),) if rest else ()),
    )
    lines = tuple(
        Line(
            (
                Cell(one.label, css="name", title=row.case.label),
                Cell(fmt.duration(one.measured_ns), one.measured_ns),
                Cell(fmt.duration(one.total_ns), one.total_ns),
                Cell(fmt.ratio(one.total_ns / one.measured_ns), one.total_ns / one.measured_ns),
                *(_share_cell(one, [name]) for name in shown),
                *((_share_cell(one, rest),) if rest else ()),
            )
        )
        for row, one in found
    )
    return Grid("Share of time by kind of module", heads, lines)


def detail_grids(one: Profile) -> list[Grid]:
    """By first- and second-level module, by operator where it is known, and the slowest layers."""
    captions = (
        (f"{one.label}: by module", one.modules),
        (f"{one.label}: by module, second level", one.submodules),
        (f"{one.label}: by operator", one.operators),
        (f"{one.label}: the slowest layers", one.slowest),
    )
    heads = (("Name", False, ""), ("Time", True, ""), ("Share", True, ""), ("Layers", True, ""))
    return [Grid(caption, heads, tuple(map(_line, shares))) for caption, shares in captions if shares]


def _mean(rounds: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Mean nanoseconds by layer; what a round lacks counts as 0 there."""
    taken = list(rounds)
    names = dict.fromkeys(name for layers in taken for name in layers)
    return {name: sum(layers.get(name, 0) for layers in taken) / len(taken) for name in names}


def _shares(layers: Mapping[str, float], name_of: Callable[[str], str]) -> tuple[Share, ...]:
    """Summed up by name, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for layer, ns in layers.items():
        sums[name_of(layer)] += ns
        counts[name_of(layer)] += 1
    total = sum(sums.values()) or 1.0
    ordered = sorted(sums, key=lambda name: (-sums[name], name))
    return tuple(Share(name, sums[name], sums[name] / total, counts[name]) for name in ordered)


def _share_cell(one: Profile, names: Sequence[str]) -> Cell:
    shares = [share.share for share in one.kinds if share.name in names]
    return Cell(_percent(sum(shares)), sum(shares)) if shares else Cell(fmt.MISSING)


def _line(share: Share) -> Line:
    return Line(
        (
            Cell(share.name, css="name"),
            Cell(fmt.duration(share.ns), share.ns),
            Cell(_percent(share.share), share.share),
            Cell(str(share.layers), share.layers),
        )
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= _SMALL else "< 1 %"
