"""Networks named by pattern, such as `timm/resnet*`: which names fit. No torch and no timm are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import models
from models.errors import UnknownModelError
from models.tables import names, suggest
from models.timm_names import timm_names

_WILD = frozenset("*?[")


def is_pattern(name: str) -> bool:
    return not _WILD.isdisjoint(name)


def known_names() -> tuple[str, ...]:
    """Every network and block that can be built: ours, other packages' and timm's, once whatever its tags."""
    ours = (name for name in names(models.MODELS, "models") if not name.startswith("peak/"))
    return (*ours, *(f"timm/{name}" for name in timm_names()))


def expanded(patterns: Sequence[str], *, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """The names that fit any of the patterns and none of `exclude`, in order and each once.

    A name without a wildcard stands for itself, and a pattern's pretrained tag (`timm/resnet50.*`) for
    nothing: all networks have the weights that the case names. Raises UnknownModelError for a pattern that
    fits nothing, or nothing that `exclude` leaves.
    """
    known, shut_out = known_names(), tuple(map(_untagged, exclude))
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = _fitting(pattern, known)
        left = [name for name in fitting if not any(fnmatchcase(_untagged(name), out) for out in shut_out)]
        if not left:
            raise UnknownModelError(_nothing(pattern, fitting, known))
        found |= dict.fromkeys(left)
    return _without_tags(found)


def _fitting(pattern: str, known: Sequence[str]) -> list[str]:
    if not is_pattern(pattern):
        return [pattern]
    return [name for name in known if fnmatchcase(name, _untagged(pattern))]


def _without_tags(found: Iterable[str]) -> tuple[str, ...]:
    """Of names that differ in their pretrained tag only, the first."""
    return tuple({_untagged(name): name for name in reversed(list(found))}.values())[::-1]


def _untagged(name: str) -> str:
    return name.partition(".")[0] if name.startswith("timm/") else name


def _nothing(pattern: str, fitting: Sequence[str], known: Iterable[str]) -> str:
    if fitting:
        return f"'{pattern}' fits {len(fitting)} models, and --exclude leaves none of them: exclude less"
    stem = "".join(letter for letter in pattern if letter not in "*?[]")
    return f"'{pattern}' fits no model: {suggest(stem, known)}"
