"""`--resolution own`: every network at the side of the image that it was designed for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from commands import UsageError
from commands.model_questions import asked
from models.facts import USUAL_SIDE
from models.info import INFO
from models.timm_names import is_timm_name

OWN = "own"
TIMM = "timm/"
SHOWN = 20  # of networks that have no resolution of their own


def own_sides(names: Iterable[str]) -> dict[str, int]:
    """By network, ours as published and timm's as its configuration has it; those of blocks are left out.

    timm is asked in a process of its own, which takes seconds. Raises UsageError for networks of which timm
    knows none, and for images that are no squares.
    """
    networks = [name for name in dict.fromkeys(names) if not name.startswith("block/")]
    theirs = [name for name in networks if name.startswith(TIMM) and is_timm_name(name.removeprefix(TIMM))]
    sizes = _timm_sizes(tuple(theirs)) if theirs else {}
    ours = {name: INFO[name].resolution if name in INFO else USUAL_SIDE for name in networks}
    return {**ours, **sides_of(sizes)}


def sides_of(sizes: Mapping[str, Any]) -> dict[str, int]:
    """By name, of (channels, height, width) or words that say why there is none.

    Raises UsageError that names all that have none, and all that are no squares.
    """
    problems = [f"  {name}: {why}" for name, size in sizes.items() if (why := _problem(size))]
    if problems:
        lines = ["only square images are measured: leave these out with --exclude, or name a side"]
        lines += problems[:SHOWN]
        lines += [f"  and {len(problems) - SHOWN} more"] if problems[SHOWN:] else []
        raise UsageError(f"--resolution {OWN}: " + "\n".join(lines))
    return {name: size[1] for name, size in sizes.items()}


def _problem(size: Sequence[int] | str) -> str:
    if isinstance(size, str):
        return size
    square = len(size) == 3 and size[1] == size[2]
    return "" if square else f"was designed for {'x'.join(map(str, size))}"


@cache
def _timm_sizes(names: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = asked("models.timm_input_sizes", names)
    return found
