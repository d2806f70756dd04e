"""One line of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is `ok`, `note` (numbers may suffer) or `missing` (cannot be done here)."""

    area: str
    state: str
    message: str
    fix: str = ""
