"""What must be known of an ONNX file before anything is built from it, read without any library.

A file of unknown origin is opened by a library in a converting process only. Planning needs its input's
shape, in which type most weights are, and the other files that hold weights: those are fields of the
protocol buffer that `onnx.proto` defines, numbered below as there. Values are skipped, not interpreted.
"""

from __future__ import annotations

import collections
import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.external_data import ExternalDataError, place_of
from converters.files import sha256_of

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 64
# ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto, TypeProto and below
GRAPH, FUNCTIONS = 7, 25
GRAPH_NODES, GRAPH_WEIGHTS, GRAPH_INPUTS, GRAPH_SPARSE = 1, 5, 11, 15
FUNCTION_NODES = 7
NODE_ATTRIBUTES = 5
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_EXTERNAL = 1, 2, 8, 13
SPARSE_TENSORS = (1, 2)
PRECISIONS: Mapping[int, str] = {1: "fp32", 10: "fp16", 16: "bf16", 2: "int8", 3: "int8"}

Data = mmap.mmap | bytes


class HeaderError(ValueError):
    """The bytes are no ONNX file; says at which one that shows."""


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """`inputs` are the dimensions of each input that is no weight, by name; None where one is left open.

    `precision` is that of most weights by count, `fp32` without weights; `locations` are the other files
    that hold weights, as the file names them.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    precision: str
    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a message: a number, or where its bytes begin and end."""

    number: int
    value: int
    begin: int = 0
    end: int = 0


def read_header(path: Path) -> OnnxHeader:
    """Raises HeaderError for bytes that are no such protocol buffer, OSError for what cannot be read."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise HeaderError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Scan(data).header()


def identity(path: Path) -> str:
    """sha256 (hex) of the file, and of all files that hold its weights where there are any.

    A place outside of the file's folder is not opened: the conversion refuses it. Raises OSError.
    """
    own = sha256_of(path)
    try:
        places = {name: place_of(path.parent, name) for name in read_header(path).locations}
    except (HeaderError, ExternalDataError):
        return own
    if not places:
        return own
    total = hashlib.sha256(own.encode())
    for name, place in sorted(places.items()):
        total.update(f"{name}\0{sha256_of(place)}".encode())
    return total.hexdigest()


class _Scan:
    def __init__(self, data: Data) -> None:
        self._data = data
        self._weights: collections.Counter[str] = collections.Counter()
        self._names: set[str] = set()
        self._inputs: dict[str, tuple[int | None, ...]] = {}
        self._locations: dict[str, None] = {}

    def header(self) -> OnnxHeader:
        graphs = 0
        for field in self._fields(0, len(self._data)):
            if field.number == GRAPH:
                graphs += 1
                self._main_graph(field)
            elif field.number == FUNCTIONS:
                self._nodes(field, FUNCTION_NODES, 0)
        if not graphs:
            raise HeaderError("it holds no graph")
        inputs = {name: dims for name, dims in self._inputs.items() if name not in self._names}
        precision = max(self._weights, key=lambda name: self._weights[name], default="fp32")
        return OnnxHeader(inputs, precision, tuple(self._locations))

    def _main_graph(self, graph: _Field) -> None:
        for field in self._inside(graph):
            if field.number == GRAPH_INPUTS:
                name, dims = self._value_info(field)
                self._inputs[name] = dims
        self._graph(graph, 0)

    def _graph(self, graph: _Field, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise HeaderError(f"graphs in graphs, more than {MAX_DEPTH} deep")
        for field in self._inside(graph):
            if field.number == GRAPH_WEIGHTS:
                self._tensor(field)
            elif field.number == GRAPH_SPARSE:
                self._sparse(field)
        self._nodes(graph, GRAPH_NODES, depth)

    def _nodes(self, container: _Field, number: int, depth: int) -> None:
        for node in self._inside(container):
            if node.number == number:
                for attribute in self._inside(node):
                    if attribute.number == NODE_ATTRIBUTES:
                        self._attribute(attribute, depth)

    def _attribute(self, attribute: _Field, depth: int) -> None:
        for field in self._inside(attribute):
            if field.number in ATTRIBUTE_TENSORS and field.end:
                self._tensor(field)
            elif field.number in ATTRIBUTE_SPARSE:
                self._sparse(field)
            elif field.number in ATTRIBUTE_GRAPHS and field.end:
                self._graph(field, depth + 1)

    def _sparse(self, field: _Field) -> None:
        for part in self._inside(field):
            if part.number in SPARSE_TENSORS:
                self._tensor(part)

    def _tensor(self, tensor: _Field) -> None:
        count, kind = 1, 0
        for field in self._inside(tensor):
            if field.number == TENSOR_DIMS:
                for side in self._numbers(field):
                    count *= side
            elif field.number == TENSOR_TYPE:
                kind = field.value
            elif field.number == TENSOR_NAME:
                self._names.add(self._text(field))
            elif field.number == TENSOR_EXTERNAL:
                self._location(field)
        if kind in PRECISIONS:
            self._weights[PRECISIONS[kind]] += count

    def _location(self, entry: _Field) -> None:
        told = {field.number: self._text(field) for field in self._inside(entry) if field.end}
        if told.get(1) == "location":
            self._locations[told.get(2, "")] = None

    def _value_info(self, value: _Field) -> tuple[str, tuple[int | None, ...]]:
        """Name and dimensions of an input: `type.tensor_type.shape.dim`, each a number or a symbol."""
        name, dims = "", list[int | None]()
        for field in self._inside(value):
            if field.number == 1:
                name = self._text(field)
            elif field.number == 2:
                shapes = self._at(field, 1, 2)
                dims = [self._dim(dim) for shape in shapes for dim in self._inside(shape) if dim.number == 1]
        return name, tuple(dims)

    def _at(self, field: _Field, *numbers: int) -> list[_Field]:
        found = [field]
        for number in numbers:
            found = [inner for outer in found for inner in self._inside(outer) if inner.number == number]
        return found

    def _dim(self, dim: _Field) -> int | None:
        values = [field.value for field in self._inside(dim) if field.number == 1]
        return values[-1] if values and 0 < values[-1] < 2**31 else None

    def _text(self, field: _Field) -> str:
        return self._data[field.begin : field.end].decode("utf-8", errors="replace")

    def _numbers(self, field: _Field) -> Iterator[int]:
        """A repeated number, each on its own or packed."""
        if not field.end:
            yield field.value
            return
        place = field.begin
        while place < field.end:
            value, place = self._varint(place, field.end)
            yield value

    def _inside(self, field: _Field) -> Iterator[_Field]:
        return self._fields(field.begin, field.end)

    def _fields(self, begin: int, end: int) -> Iterator[_Field]:
        place = begin
        while place < end:
            tag, place = self._varint(place, end)
            number, kind, value, start = tag >> 3, tag & 7, 0, place
            if kind == VARINT:
                value, place = self._varint(place, end)
                start = place
            elif kind == BYTES:
                length, start = self._varint(place, end)
                place = start + length
            elif kind in (FIXED64, FIXED32):
                place += 8 if kind == FIXED64 else 4
            else:
                raise HeaderError(f"byte {start} has a wire type that it does not use")
            if place > end or not number:
                raise HeaderError(f"it is cut off or damaged at byte {start}")
            yield _Field(number, value, start, place) if kind == BYTES else _Field(number, value)

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self._data[place]
            value |= (byte & 0x7F) << shift
            place += 1
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, place
        raise HeaderError(f"it is cut off or damaged at byte {place}")
