"""Sizes as people write them: `40 GB`, `512 MiB`, `1000`. No toolchain is imported here."""

from __future__ import annotations

import re

UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([a-z]{0,3})", re.ASCII)


def parse_bytes(text: str) -> int:
    """Bytes of `40 GB` (powers of 1000), `512MiB` (of 1024) or a number alone, upper or lower case.

    Raises ValueError saying how a size is written.
    """
    found = SIZE.fullmatch(text.strip().lower())
    if not found or found[2] not in UNITS or (size := round(float(found[1]) * UNITS[found[2]])) < 1:
        raise ValueError(f"'{text}' is not a size above 0 written like 40 GB, 512 MiB or 1000000")
    return size
