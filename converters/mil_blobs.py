"""The values that a Core ML program names: where its weights lie, checked before a library reads them.

A weight is a reference into a file: 64 bytes of metadata (a mark, the type, the number of bytes, where they
begin) and the bytes themselves.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = 0xDEADBEEF
METADATA = struct.Struct("<IIQQ")
METADATA_BYTES = 64
MAX_ELEMENTS = 2**31
MAX_OPERATIONS = 200_000


def check_values(program: Any, weights: Path) -> None:
    """Check a program (a `MILSpec.Program`) against its folder of weights.

    Raises ValueError for a reference that leads out of the folder or beyond the end of a file, for a value
    larger than any network needs, and for too many operations.
    """
    files: dict[str, Path] = {}
    for count, operation in enumerate(_operations(program), start=1):
        if count > MAX_OPERATIONS:
            raise ValueError(f"more than {MAX_OPERATIONS} operations")
        for output in operation.outputs:
            _check_size(output.name, output.type)
        for name, value in _values(operation):
            _check_size(name, value.type)
            if value.WhichOneof("value") == "blobFileValue":
                _check_blob(name, value, weights, files)


def _operations(program: Any) -> Iterator[Any]:
    blocks = [b for f in program.functions.values() for b in f.block_specializations.values()]
    while blocks:
        for operation in blocks.pop().operations:
            yield operation
            blocks.extend(operation.blocks)


def _values(operation: Any) -> Iterator[tuple[str, Any]]:
    for value in operation.attributes.values():
        yield operation.outputs[0].name if operation.outputs else operation.type, value
    for name, argument in operation.inputs.items():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                yield name, binding.value


def _check_size(name: str, value_type: Any) -> None:
    if value_type.WhichOneof("type") != "tensorType":
        return
    sides = [
        d.constant.size for d in value_type.tensorType.dimensions if d.WhichOneof("dimension") == "constant"
    ]
    if math.prod(sides) > MAX_ELEMENTS:
        raise ValueError(f"'{name[:100]}' has {math.prod(sides)} elements; at most {MAX_ELEMENTS}")


def _check_blob(name: str, value: Any, weights: Path, files: dict[str, Path]) -> None:
    blob = value.blobFileValue
    path = files.get(blob.fileName) or _file(name, blob.fileName, weights)
    files[blob.fileName] = path
    size = path.stat().st_size
    if blob.offset + METADATA_BYTES > size:
        raise ValueError(
            f"'{name[:100]}' lies beyond the end of {path.name} ({size} bytes): is it cut short?"
        )
    with path.open("rb") as file:
        file.seek(blob.offset)
        mark, _, length, offset = METADATA.unpack(file.read(METADATA.size))
    if mark != MARK or offset + length > size:
        raise ValueError(f"'{name[:100]}' is not in {path.name} as the program says: is it cut short?")


def _file(name: str, file_name: str, weights: Path) -> Path:
    """`@model_path/weights/NAME` in the folder of weights."""
    plain = file_name.rpartition("/")[2]
    if not plain or plain in (".", "..") or "\\" in plain or ".." in file_name.split("/"):
        raise ValueError(f"'{name[:100]}' names the file {file_name[:100]!r}")
    path = weights / plain
    if not path.is_file():
        raise ValueError(f"the weights of '{name[:100]}' are in {plain!r}, which is not there")
    return path
