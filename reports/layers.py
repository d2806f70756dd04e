"""Where the time goes: a runtime's profile by layer, summed up by the network's modules and their kinds.

ONNX node names hold the module's path (`/stages/stages.0/stages.0.0/mlp/conv1/Conv`), and runtimes name a
fused layer after all of its nodes, joined with ` + `. Layers without such a name (copies, reformatting that a
runtime puts in, nodes of the graph's own) are the rest, never spread over the others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.tables import Row, RunTable

OTHER = "other"
_NODE = re.compile(r"/[\w./-]+")  # a node's name inside whatever a runtime puts around it
_RANGE = "..."  # between the first and the last node of a region that was compiled as one
_COPY = "Reformatting CopyNode"  # named after the node that it feeds, which it is no part of
_SMALL = 0.005  # shares below are summed up in sentences
_SLOWEST = 10


@dataclass(frozen=True)
class Share:
    """`ns` of one inference that a kind or a module takes, and the `share` of all layers' time."""

    name: str
    ns: float
    share: float
    layers: int


@dataclass(frozen=True)
class Profile:
    """One case's profile, the mean over its rounds: by kind, by first- and second-level module, by layer."""

    label: str
    total_ns: float
    kinds: tuple[Share, ...]
    modules: tuple[Share, ...]
    submodules: tuple[Share, ...]
    slowest: tuple[Share, ...]


def module_paths(layer: str) -> tuple[str, ...]:
    """The modules that a layer's nodes lie in: `stages.0.0.mlp.conv1`; each once, in the name's order.

    A node at the top of the graph lies in the network itself, whose path is empty.
    """
    if layer.startswith(_COPY):
        return ()
    names = (name.strip(".") for name in layer.replace(_RANGE, " ").split())
    nodes = [node for name in names for node in _NODE.findall(name)]
    return tuple(dict.fromkeys(_path(node) for node in nodes))


def module_at_level(path: str, level: int) -> str:
    """The module of that level: `stages.0` and `stages.0.0` of `stages.0.0.mlp.conv1` at levels 1 and 2.

    A number belongs to the container before it, and makes a level of its own only behind another number.
    """
    places: list[str] = []
    for part in path.split(".") if path else []:
        if part.isdigit() and places and not places[-1].rpartition(".")[2].isdigit():
            places[-1] += f".{part}"
        else:
            places.append(f"{places[-1]}.{part}" if places else part)
    return places[min(level, len(places)) - 1] if places else OTHER


def kind_of(layer: str, modules: Mapping[str, str]) -> str:
    """What the network calls the part that a layer belongs to; `NCB + NTB` for one that spans two kinds.

    A region that was compiled as one is named by its first and last node alone, so it is told as such.
    """
    kinds = dict.fromkeys(_kind(path, modules) for path in module_paths(layer))
    known = [kind for kind in kinds if kind != OTHER]
    if _RANGE in layer and len(known) > 1:
        return f"one region, {known[0]} to {known[-1]}"
    return " + ".join(known) or OTHER


def profile(row: Row) -> Profile | None:
    """A case's profile; None where its runtime took none."""
    layers = _mean(one.layers for one in row.measurement.rounds if one.layers)
    if not layers:
        return None
    modules = row.result.artifact.modules if row.result.artifact else {}
    return Profile(
        row.label,
        sum(layers.values()),
        _shares(layers, lambda name: kind_of(name, modules)),
        _shares(layers, lambda name: _joined(name, 1)),
        _shares(layers, lambda name: _joined(name, 2)),
        _shares(layers, lambda name: name)[:_SLOWEST],
    )


def profiles(table: RunTable) -> list[tuple[Row, Profile]]:
    """Of every row that has one."""
    return [(row, found) for row in table.rows if (found := profile(row))]


def sentence(found: Profile) -> str:
    """`NCB 61 %, NTB 30 %, patch embedding 5 %, stem 3 %, head 1 %`, the largest first."""
    shown = [share for share in found.kinds if share.share >= _SMALL]
    rest = sum(share.share for share in found.kinds if share.share < _SMALL)
    words = [f"{share.name} {_percent(share.share)}" for share in shown]
    return ", ".join([*words, f"less {_percent(rest)}"] if rest >= _SMALL else words)


def kinds_grid(found: Sequence[tuple[Row, Profile]]) -> Grid | None:
    """A line per case, a column per kind of module."""
    if not found:
        return None
    totals: dict[str, float] = defaultdict(float)
    for _, one in found:
        for share in one.kinds:
            totals[share.name] += share.share
    names = sorted(totals, key=lambda name: -totals[name])
    heads = (
        ("Case", False, ""),
        ("Sum of layers", True, "of the profiled inference, which is slower than a timed one"),
        *((name, True, "share of the layers' time") for name in names),
    )
    lines = tuple(
        Line(
            (
                Cell(one.label, css="name", title=row.case.label),
                Cell(fmt.duration(one.total_ns), one.total_ns),
                *(_share_cell(one, name) for name in names),
            )
        )
        for row, one in found
    )
    return Grid("Share of time by kind of module", heads, lines)


def detail_grids(one: Profile) -> list[Grid]:
    """By first-level module, by second-level module, and the slowest layers."""
    captions = (
        (f"{one.label}: by module", one.modules),
        (f"{one.label}: by module, second level", one.submodules),
        (f"{one.label}: the slowest layers", one.slowest),
    )
    heads = (("Name", False, ""), ("Time", True, ""), ("Share", True, ""), ("Layers", True, ""))
    return [Grid(caption, heads, tuple(map(_line, shares))) for caption, shares in captions]


def _path(node: str) -> str:
    """The module of a node's name, whose last part is the operator.

    A container's children repeat its name: `/stages/stages.0/stages.0.0/Add` lies in `stages.0.0`.
    """
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def _kind(path: str, modules: Mapping[str, str]) -> str:
    """The kind of the deepest module above the path that has one."""
    parts = path.split(".")
    above = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((modules[name] for name in above if name in modules), OTHER)


def _joined(layer: str, level: int) -> str:
    places = dict.fromkeys(module_at_level(path, level) for path in module_paths(layer))
    return " + ".join(place for place in places if place != OTHER) or OTHER


def _mean(rounds: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Mean nanoseconds by layer, in the order of the first round; what a round lacks counts as 0 there."""
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


def _share_cell(one: Profile, name: str) -> Cell:
    share = next((share for share in one.kinds if share.name == name), None)
    return Cell(_percent(share.share), share.share) if share else Cell(fmt.MISSING)


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
