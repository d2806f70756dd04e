"""What NVIDIA's trtexec measured, from its own JSON files: `--exportTimes` and `--exportProfile`.

The fields were read from trtexec's published sources (samples/common/sampleReporting.cpp) in three forms:

- TensorRT 7: `inMs`, `computeMs`, `outMs`, `latencyMs`, `endToEndMs`, and start and end of in, compute, out;
- TensorRT 8: `h2dMs`, `computeMs`, `d2hMs`, `latencyMs`, `endToEndMs`, and start and end of enqueue (`Enq`),
  h2d, compute and d2h;
- later ones: the same without `endToEndMs`.

Files with `endToEndMs` begin with the warm-up queries, which trtexec leaves out of its own summary: those
whose compute starts before `--warmUp` (200 ms unless told otherwise). Later files leave them out themselves.
Times are milliseconds with six significant digits; differences of two time stamps (`enqueue`) are therefore
coarse late in a run. `latencyMs` is h2d + compute + d2h on the device's clock, not a host time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from runners.measurement import Samples

DEFAULT_WARMUP_MS = 200.0
MAX_BYTES = 1 << 30
# part of a sample -> its field, newer names first
_PARTS = {
    "h2d": ("h2dMs", "inMs"),
    "d2h": ("d2hMs", "outMs"),
    "latency": ("latencyMs",),
    "end_to_end": ("endToEndMs",),
}
_Query = Mapping[str, float]


class TrtexecError(Exception):
    """A file that trtexec cannot have written, or not whole; the message names it and what is wrong."""


@dataclass(frozen=True)
class Times:
    """The queries of one trtexec process, one value per query in nanoseconds.

    `samples_ns` is the GPU compute time; `parts` has `h2d`, `d2h`, `enqueue`, `latency` and `end_to_end` as
    far as the file has them. `transfers` is `none` where neither direction took any time, `unknown` where the
    file has neither, else `both`.
    """

    samples_ns: Samples
    warmup_ns: Samples
    parts: Mapping[str, Samples] = field(default_factory=dict)
    transfers: str = "both"


def read_times(path: Path, *, warmup_ms: float | None = None) -> Times:
    """The queries of an `--exportTimes` file; those that began before `warmup_ms` are warm-up.

    Without `warmup_ms` it is trtexec's own 200 ms in files that hold warm-up queries, and 0 in others. Raises
    TrtexecError.
    """
    queries = [_query(path, index, entry) for index, entry in enumerate(_entries(path))]
    if not queries:
        raise TrtexecError(f"{path} holds no query: let trtexec run longer (--duration, --iterations)")
    _check_fields(path, queries)
    first = _first_timed(path, queries, warmup_ms)
    timed = queries[first:]
    parts = {
        name: _nanoseconds(timed, found)
        for name, names in _PARTS.items()
        if (found := _one_of(queries, names))
    }
    if "startEnqMs" in queries[0] and "endEnqMs" in queries[0]:
        parts["enqueue"] = np.array([_ns(q["endEnqMs"] - q["startEnqMs"]) for q in timed], dtype=np.int64)
    _check_parts(path, parts)
    copies = [name for name in ("h2d", "d2h") if name in parts]
    moved = any(parts[name].any() for name in copies)
    if not moved:
        parts = {name: values for name, values in parts.items() if name not in copies}
    samples, warmup = (_nanoseconds(part, "computeMs") for part in (timed, queries[:first]))
    return Times(samples, warmup, parts, "both" if moved else "none" if copies else "unknown")


def read_profile(path: Path) -> dict[str, int]:
    """Nanoseconds of one inference by layer, in execution order, from an `--exportProfile` file.

    A name that occurs again gets its number (`conv (2)`). Raises TrtexecError.
    """
    entries = _entries(path)
    if not entries or not isinstance(entries[0], dict) or "count" not in entries[0]:
        raise TrtexecError(f"{path} does not begin with a count: it is no --exportProfile file")
    layers: dict[str, int] = {}
    for index, entry in enumerate(entries[1:], start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise TrtexecError(f"{path}: entry {index} has no layer name")
        milliseconds = _number(path, index, "averageMs", entry.get("averageMs"))
        layers[_free_name(entry["name"], layers)] = _ns(milliseconds)
    if not layers:
        raise TrtexecError(f"{path} holds no layer")
    return layers


@dataclass(frozen=True)
class Settings:
    """What a trtexec command line says about the protocol.

    None and `unknown` are what it does not say: the default of that trtexec holds, and defaults have changed.
    """

    cuda_graph: bool | None = None
    sync: str = "unknown"
    streams: int | None = None
    warmup_ms: float | None = None


def settings_of(command: str) -> Settings:
    """Read from --useCudaGraph, --useSpinWait, --infStreams=N (in older releases --streams) and --warmUp."""
    flags = {word.partition("=")[0] for word in command.split()}
    streams = re.search(r"--(?:infStreams|streams)[= ](\d+)", command)
    warmup = re.search(r"--warmUp[= ](\d+)", command)
    return Settings(
        cuda_graph=True if "--useCudaGraph" in flags else None,
        sync="spin" if "--useSpinWait" in flags else "unknown",
        streams=int(streams[1]) if streams else None,
        warmup_ms=float(warmup[1]) if warmup else None,
    )


def _entries(path: Path) -> Sequence[object]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TrtexecError(f"{path} is larger than {MAX_BYTES} bytes")
        value = json.loads(path.read_bytes().decode(), parse_constant=_refuse_constant)
    except OSError as error:
        raise TrtexecError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TrtexecError(f"{path} is no JSON of trtexec, or was cut short ({error})") from None
    if not isinstance(value, list):
        raise TrtexecError(f"{path} holds no list: give the file of --exportTimes (or of --exportProfile)")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no time")


def _query(path: Path, index: int, entry: object) -> _Query:
    if not isinstance(entry, dict) or "computeMs" not in entry:
        raise TrtexecError(f"{path}: entry {index} has no computeMs: is it a file of --exportTimes?")
    query = {name: _number(path, index, name, value) for name, value in entry.items()}
    if _ns(query["computeMs"]) < 1:
        raise TrtexecError(f"{path}: entry {index}: computeMs = {query['computeMs']:g} is no time above 0")
    return query


def _number(path: Path, index: int, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise TrtexecError(f"{path}: entry {index}: {name} = {str(value)[:40]} is no time in milliseconds")
    if value > 1e9:
        raise TrtexecError(f"{path}: entry {index}: {name} = {value:g} ms is longer than any run")
    return float(value)


def _check_fields(path: Path, queries: Sequence[_Query]) -> None:
    for index, query in enumerate(queries):
        if query.keys() != queries[0].keys():
            odd = sorted(query.keys() ^ queries[0].keys())
            raise TrtexecError(f"{path}: entry {index} differs from the first in {', '.join(odd[:4])}")


def _check_parts(path: Path, parts: Mapping[str, Samples]) -> None:
    for name, values in parts.items():
        if values.min() < 0:
            raise TrtexecError(f"{path}: {name} of query {int(values.argmin())} ends before it starts")


def _first_timed(path: Path, queries: Sequence[_Query], warmup_ms: float | None) -> int:
    if warmup_ms is None:
        warmup_ms = DEFAULT_WARMUP_MS if "endToEndMs" in queries[0] else 0.0
    if not warmup_ms:
        return 0
    if "startComputeMs" not in queries[0]:
        raise TrtexecError(
            f"{path} has no startComputeMs: its warm-up cannot be told apart; give --warmup-ms 0"
        )
    first = next((i for i, query in enumerate(queries) if query["startComputeMs"] >= warmup_ms), None)
    if first is None:
        raise TrtexecError(
            f"{path}: all {len(queries)} queries began within the {warmup_ms:g} ms of warm-up; give the"
            " trtexec run's own --warmUp with --warmup-ms"
        )
    return first


def _one_of(queries: Sequence[_Query], names: Sequence[str]) -> str:
    return next((name for name in names if name in queries[0]), "")


def _nanoseconds(queries: Sequence[_Query], name: str) -> Samples:
    return np.array([_ns(query[name]) for query in queries], dtype=np.int64)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1e6)


def _free_name(name: str, taken: Mapping[str, int]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate
