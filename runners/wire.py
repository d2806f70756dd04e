"""Messages between parent and measuring process: a JSON header, then raw little-endian 64-bit integers.

A frame is 4 bytes MAGIC, 8 bytes header length, the header, then the arrays that its `arrays` names, in
order: `{"samples_ns": 412}` means 412 x 8 bytes. Nothing a library prints can get in: it has its own pipe.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runners.measurement import Round, Samples, misfit

MAGIC = b"DBF1"
PREFIX = struct.Struct("<4sQ")
MAX_HEADER = 1 << 24
MAX_ITEMS = 1 << 24
PART = "part:"  # before the names of a round's parts among the arrays


class ProtocolError(ValueError):
    """Bytes that are no message of ours."""


@dataclass(frozen=True, slots=True)
class Message:
    header: Mapping[str, Any]
    arrays: Mapping[str, Samples] = field(default_factory=dict)


def encode(header: Mapping[str, Any], arrays: Mapping[str, Samples] | None = None) -> bytes:
    """One frame. NaN and infinity are refused with a ValueError: they are no JSON."""
    arrays = arrays or {}
    sizes = {name: len(values) for name, values in arrays.items()}
    text = json.dumps({**header, "arrays": sizes}, allow_nan=False).encode()
    body = b"".join(values.astype("<i8").tobytes() for values in arrays.values())
    return PREFIX.pack(MAGIC, len(text)) + text + body


def encode_round(taken: Round) -> bytes:
    """The frame of a round: its facts in the header, its samples and their parts as arrays."""
    parts = {PART + name: values for name, values in taken.parts.items()}
    arrays = {"samples_ns": taken.samples_ns, "warmup_ns": taken.warmup_ns, **parts}
    return encode({"round": taken.to_dict()}, arrays)


def decode_round(message: Message) -> Round:
    """Raises ProtocolError where the number of a part's values does not fit that of the samples."""
    arrays = message.arrays
    parts = {name.removeprefix(PART): values for name, values in arrays.items() if name.startswith(PART)}
    if wrong := misfit(len(arrays["samples_ns"]), parts):
        raise ProtocolError(wrong)
    return Round.from_dict(message.header["round"], arrays["samples_ns"], arrays["warmup_ns"], parts)


def send(descriptor: int, frame: bytes) -> None:
    """Writes all of a frame, however little the pipe takes at a time."""
    view = memoryview(frame)
    while view:
        view = view[os.write(descriptor, view) :]


class Decoder:
    """Collects bytes and hands out the messages that are complete."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def incomplete_bytes(self) -> int:
        """How much of a message is there that never became whole."""
        return len(self._pending)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages completed by `data`; raises ProtocolError for anything else."""
        self._pending += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if len(self._pending) < PREFIX.size:
            return None
        magic, length = PREFIX.unpack_from(self._pending)
        if magic != MAGIC or length > MAX_HEADER:
            raise ProtocolError(f"not a message: it starts with {bytes(self._pending[:12])!r}")
        start = PREFIX.size + length
        if len(self._pending) < start:
            return None
        header = _header(bytes(self._pending[PREFIX.size : start]))
        sizes = header.pop("arrays")
        end = start + 8 * sum(sizes.values())
        if len(self._pending) < end:
            return None
        message = Message(header, dict(_arrays(bytes(self._pending[start:end]), sizes)))
        del self._pending[:end]
        return message


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
        sizes = header["arrays"]
        valid = all(isinstance(size, int) and 0 <= size <= MAX_ITEMS for size in sizes.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"malformed header: {error}") from None
    if not valid:
        raise ProtocolError(f"impossible array sizes {sizes}")
    assert isinstance(header, dict)
    return header


def _arrays(body: bytes, sizes: Mapping[str, int]) -> Iterator[tuple[str, Samples]]:
    offset = 0
    for name, size in sizes.items():
        yield name, np.frombuffer(body, dtype="<i8", count=size, offset=offset).astype(np.int64)
        offset += 8 * size
