"""Values to stored bytes and back: JSON that keeps NaN and infinity, samples as int64, and row checksums."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runners.measurement import Samples

_NON_FINITE = "$float"


def encode(value: object) -> str:
    """Canonical JSON text; a non-finite float becomes `{"$float": "nan"}`, so the text stays standard JSON.

    Raises TypeError for a value that is not plain (NumPy scalars count as plain).
    """
    return json.dumps(_tag(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(text: str) -> Any:
    """The value of `encode`'s text. Raises ValueError for text that is not JSON."""
    return json.loads(text, object_hook=_untag)


def plain(value: object) -> object:
    """The value for files that others read: standard JSON types only, and `null` for a non-finite number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _tag(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: repr(value)}
    if isinstance(value, Mapping):
        return {str(key): _tag(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tag(item) for item in value]
    return value


def _untag(value: dict[str, Any]) -> Any:
    if value.keys() == {_NON_FINITE} and value[_NON_FINITE] in ("nan", "inf", "-inf"):
        return float(value[_NON_FINITE])
    return value


def samples_to_bytes(samples: Samples) -> bytes:
    """Little-endian int64, in order. Raises ValueError for another element type or rank."""
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.integer):
        raise ValueError(f"samples must be a 1-D integer array, not {samples.dtype} of rank {samples.ndim}")
    return samples.astype("<i8").tobytes()


def samples_from_bytes(blob: bytes) -> Samples:
    """A read-only array: what was measured is never changed."""
    samples = np.frombuffer(blob, dtype="<i8").astype(np.int64)
    samples.flags.writeable = False
    return samples


def checksum(*values: object) -> bytes:
    """sha256 over the values of one row, each with its type and length so that none can run into the next."""
    state = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        state.update(f"{type(value).__name__}:{len(data)}:".encode())
        state.update(data)
    return state.digest()
