"""Where a layer of a runtime's profile belongs, from its name: the module, the kind of module, the operator.

ONNX node names hold the module's path (`/stages/stages.0/stages.0.0/mlp/conv1/Conv`), and runtimes name a
fused layer after all of its nodes, joined with ` + `. Layers without such a name (copies, reformatting that a
runtime puts in, nodes of the graph's own) are the rest, never spread over the others; a CPU runner has named
those that lie inside one module (runners/layer_profile.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from runners.measurement import BETWEEN_LAYERS, BY_NEIGHBOURS

OTHER = "other"
_NODE = re.compile(r"/[\w./-]+")  # a node's name inside whatever a runtime puts around it
_RANGE = "..."  # between the first and the last node of a region that was compiled as one
_COPY = "Reformatting CopyNode"  # named after the node that it feeds, which it is no part of
_OPERATOR = re.compile(rf"(\w+)(?:{re.escape(BY_NEIGHBOURS)})?: ")


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


def modules_at_level(layer: str, level: int) -> str:
    """The modules of a layer at that level, joined; a name of its own for what lies between the layers."""
    places = dict.fromkeys(module_at_level(path, level) for path in module_paths(layer))
    return " + ".join(place for place in places if place != OTHER) or _unplaced(layer)


def kind_of(layer: str, modules: Mapping[str, str]) -> str:
    """What the network calls the part that a layer belongs to; `NCB + NTB` for one that spans two kinds.

    A region that was compiled as one is named by its first and last node alone, so it is told as such.
    """
    kinds = dict.fromkeys(_kind(path, modules) for path in module_paths(layer))
    known = [kind for kind in kinds if kind != OTHER]
    if _RANGE in layer and len(known) > 1:
        return f"one region, {known[0]} to {known[-1]}"
    return " + ".join(known) or _unplaced(layer)


def operator_of(layer: str) -> str:
    """`Conv` of `Conv: /stem/stem.0/conv/Conv`; empty where the name does not begin with its operator."""
    found = _OPERATOR.match(layer)
    return found[1] if found else ""


def _unplaced(layer: str) -> str:
    return layer if layer == BETWEEN_LAYERS else OTHER


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
