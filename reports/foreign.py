"""What every file of another tool is held to: a limited size, plain JSON, and times that can be times."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NoReturn

MAX_BYTES = 1 << 30
MAX_SAMPLE_NS = 10**15  # as in a file of records


class ForeignFileError(Exception):
    """A file that its tool cannot have written, or not whole; the message names it and what is wrong."""


def text_of(path: Path) -> str:
    """The file as text. Raises ForeignFileError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ForeignFileError(f"{path} is larger than {MAX_BYTES} bytes")
        return path.read_bytes().decode()
    except OSError as error:
        raise ForeignFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ForeignFileError(f"{path} is no text: {error.reason} at byte {error.start}") from None


def json_of(path: Path, tool: str) -> object:
    """The file's JSON value; NaN and infinities are none. Raises ForeignFileError."""
    try:
        return json.loads(text_of(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ForeignFileError(f"{path} is no JSON of {tool}, or was cut short ({error})") from None


def elapsed_ns(seconds: object, what: str, *, times: int = 1) -> int:
    """Whole nanoseconds of `times` times so many seconds. Raises ForeignFileError naming `what`."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ForeignFileError(f"{what} = {str(seconds)[:40]} is no time in seconds")
    value = seconds * times * 1e9
    if not 0.5 <= value <= MAX_SAMPLE_NS:
        raise ForeignFileError(
            f"{what} = {seconds:g} s is no time that can be: from 1 ns to {MAX_SAMPLE_NS / 1e9:g} s"
        )
    return round(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no time")
