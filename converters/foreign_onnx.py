"""ONNX files that may come from anywhere: where their weights lie is checked before they are opened.

A file may keep weights in other files, named by paths of its own choosing. Only plain files in the folder of
the ONNX file, or below it, are read.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, TensorProto

from converters.external_data import ExternalDataError, place_of

MAX_BYTES = 2**31 - 1  # what a protocol buffer holds
MAX_DEPTH = 16


class ForeignOnnxError(Exception):
    """What is wrong with a file, in words for its user."""


def load(path: Path) -> onnx.ModelProto:
    """The model with all its weights. Raises ForeignOnnxError."""
    status = path.lstat()
    if not stat.S_ISREG(path.stat().st_mode) or status.st_size > MAX_BYTES:
        raise ForeignOnnxError(f"{path} is no plain file of at most 2 GiB")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the protocol buffer library has no exception of its own that is public
        raise ForeignOnnxError(f"{path} is no ONNX file ({str(error)[:200]})") from None
    external = [t for t in _tensors(proto.graph) if t.data_location == TensorProto.EXTERNAL]
    for function in proto.functions:
        external += [
            tensor
            for node in function.node
            for tensor in _of_attributes(node.attribute, 0)
            if tensor.data_location == TensorProto.EXTERNAL
        ]
    total = sum(_checked(path, tensor) for tensor in external)
    if status.st_size + total > MAX_BYTES:
        raise ForeignOnnxError(f"{path} has {total} bytes of external weights; at most 2 GiB in all")
    if external:
        onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    return proto


def _tensors(graph: GraphProto, depth: int = 0) -> Iterator[TensorProto]:
    """Every tensor of a graph and of the graphs in its nodes."""
    if depth > MAX_DEPTH:
        raise ForeignOnnxError(f"graphs in graphs, more than {MAX_DEPTH} deep")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_attributes(node.attribute, depth)


def _of_attributes(attributes: Iterator[AttributeProto], depth: int) -> Iterator[TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph, depth + 1)


def _checked(path: Path, tensor: TensorProto) -> int:
    """The bytes of a tensor in another file. Raises ForeignOnnxError for a place that is not ours."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, name = entries.get("location", ""), tensor.name[:100]
    try:
        place = place_of(path.parent, location)
    except ExternalDataError as error:
        raise ForeignOnnxError(f"{path}: weight '{name}' {error}") from None
    size = place.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError:
        raise ForeignOnnxError(f"{path}: weight '{name}' has no whole numbers for its place") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise ForeignOnnxError(f"{path}: weight '{name}' lies beyond the end of {location[:100]!r}")
    return length
