"""Framing between parent and child: whole messages come out however they were cut, nonsense is refused."""

from __future__ import annotations

import os
import struct
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners import wire


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), st.lists(st.integers(1, 60), max_size=30))
def test_messages_survive_any_cutting(values: list[int], cuts: list[int]) -> None:
    arrays = {"samples_ns": np.array(values, dtype=np.int64), "warmup_ns": np.array([3], dtype=np.int64)}
    stream = wire.encode({"phase": "load"}) + wire.encode({"round": {"a": "é"}}, arrays)
    decoder, messages, at = wire.Decoder(), [], 0
    for size in [*cuts, len(stream)]:
        messages += list(decoder.feed(stream[at : at + size]))
        at += size
    assert [sorted(m.header) for m in messages] == [["phase"], ["round"]]
    assert messages[1].header["round"] == {"a": "é"}
    assert messages[1].arrays["samples_ns"].tolist() == values
    assert messages[1].arrays["samples_ns"].dtype == np.int64
    assert decoder.incomplete_bytes == 0


def test_incomplete_message_is_counted_not_guessed() -> None:
    decoder = wire.Decoder()
    frame = wire.encode({"round": {}}, {"samples_ns": np.arange(10)})
    assert list(decoder.feed(frame[:-1])) == []
    assert decoder.incomplete_bytes == len(frame) - 1


def frame_of(header: bytes, *, magic: bytes = wire.MAGIC, length: int | None = None) -> bytes:
    return struct.pack("<4sQ", magic, len(header) if length is None else length) + header


@pytest.mark.parametrize(
    "data",
    [
        b"Segmentation fault, as a library would print it",
        frame_of(b'{"arrays": {}}', magic=b"XXXX"),
        frame_of(b"", length=1 << 60),
        frame_of(b"not json"),
        frame_of(b"[1, 2]"),
        frame_of(b'{"no": "arrays"}'),
        frame_of(b'{"arrays": {"a": -1}}'),
        frame_of(b'{"arrays": {"a": 1e9}}'),
        frame_of(b'{"arrays": {"a": 999999999999}}'),
        frame_of(b'{"arrays": 3}'),
    ],
)
def test_nonsense_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        list(wire.Decoder().feed(data))


def test_nan_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        wire.encode({"round": {"output_error": float("nan")}})


def test_large_frames_pass_through_a_pipe() -> None:
    frame = wire.encode({"round": {}}, {"samples_ns": np.arange(200_000)})
    reader, writer = os.pipe()
    sender = threading.Thread(target=wire.send, args=(writer, frame))
    sender.start()
    decoder, messages = wire.Decoder(), []
    while not messages:
        messages += list(decoder.feed(os.read(reader, 1 << 16)))
    sender.join()
    os.close(reader)
    os.close(writer)
    assert np.array_equal(messages[0].arrays["samples_ns"], np.arange(200_000))


@pytest.mark.parametrize(
    ("name", "values"), [("h2d", 2), ("h2d", 4), ("host", 0), ("host", 4), ("enqueue", 0), ("latency", 2)]
)
def test_a_part_that_does_not_fit_its_samples_is_refused(name: str, values: int) -> None:
    arrays = {"samples_ns": np.arange(3), "warmup_ns": np.arange(1), f"part:{name}": np.arange(values)}
    (message,) = wire.Decoder().feed(wire.encode({"round": {}}, arrays))
    with pytest.raises(wire.ProtocolError, match=f"part {name} has {values} values for 3 samples"):
        wire.decode_round(message)
