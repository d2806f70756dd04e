"""Whether a parsed network computes as its ONNX file declares: compared layer by layer, by node names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from converters import onnx_types
from converters.engine_types import PRECISIONS, UNCOUNTED
from converters.onnx_types import PRECISION_OF_TYPE, TypeReport, mismatch, require

# The parser writes it into each layer, however it names the layer.
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")


@dataclass(frozen=True, slots=True)
class Declared:
    """Precisions of an ONNX file by name: of nodes that multiply and accumulate, of values, and of nodes."""

    macs: Mapping[str, str]
    values: Mapping[str, str]
    nodes: Mapping[str, str]


def check_declared(network: Any, types: TypeReport, data: bytes, precision: str) -> None:
    """Raises ConversionError `precision_mismatch` where a layer computes in another type than its node.

    `types` are those of `network`, which was parsed from the file `data`. What the file itself declares in
    fp32 is right there and nowhere else, and most of the work has to be done in `precision`.
    """
    declared = _declared(onnx.load_from_string(data))
    strays = [
        *_mac_strays(types, _nodes(network), declared, precision),
        *_strays(network, declared, precision),
    ]
    if strays:
        raise mismatch(
            f"{len(strays)} layers of the network do not compute as the ONNX file declares, the first is"
            f" {strays[0]}"
        )
    islands = [node.name for node in types.macs if node.precision != precision]
    require(types, precision, islands=islands)


def _declared(proto: onnx.ModelProto) -> Declared:
    kinds = onnx_types.typed_values(proto).types
    values = {name: PRECISION_OF_TYPE[kind] for name, kind in kinds.items() if kind in PRECISION_OF_TYPE}
    nodes = {node.name: values[node.output[0]] for node in proto.graph.node if node.output[0] in values}
    macs = {node.name: node.precision for node in onnx_types.read(proto).macs}
    return Declared(macs, values, nodes)


def _nodes(network: Any) -> dict[str, str]:
    """The ONNX node of every layer, by the layer's name."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return {layer.name: _node_of(layer) for layer in layers}


def _node_of(layer: Any) -> str:
    found = _NODE.search(getattr(layer, "metadata", ""))
    return found.group(1) if found else str(layer.name)


def _mac_strays(
    types: TypeReport, nodes: Mapping[str, str], declared: Declared, precision: str
) -> Iterator[str]:
    for mac in types.macs:
        wanted = declared.macs.get(nodes.get(mac.name, mac.name), precision)
        if mac.precision != wanted:
            yield f"{mac.operator} '{mac.name}' in {mac.precision} instead of {wanted}"


def _strays(network: Any, declared: Declared, precision: str) -> Iterator[str]:
    """Layers that multiply and accumulate nothing, by the types of their floating-point outputs."""
    usual = "fp32" if precision == "int8" else precision  # what a quantizer leaves between its pairs
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in UNCOUNTED:
            continue
        node = declared.nodes.get(_node_of(layer), usual)
        for k in range(layer.num_outputs):
            tensor = layer.get_output(k)
            found = PRECISIONS.get(tensor.dtype.name)
            wanted = declared.values.get(tensor.name, node)
            if found and found != wanted:
                yield f"{layer.type.name.lower()} '{layer.name}' in {found} instead of {wanted}"
