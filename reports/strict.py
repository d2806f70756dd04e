"""Values that come from a file of another machine, as this project's dataclasses, every type checked.

Written for the standard library alone, because the machine that measures a bundle may have little else.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
_BROKEN = (TypeError, ValueError, KeyError, AttributeError, RecursionError)


class FormError(ValueError):
    """A value has not the form that it must have; the message says where and what."""


def built(make: Callable[[Any], T], value: object, what: str) -> T:
    """`make(value)`, a dataclass, with the type of every field checked. Raises FormError naming `what`."""
    try:
        made = make(value)
    except _BROKEN as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FormError(f"{what}: {reason}") from None
    check(made, what)
    return made


def check(value: object, what: str) -> None:
    """Raises FormError for the first field of a dataclass that is not of its declared type."""
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        _check(getattr(value, name), hint, f"{what}.{name}")


def member(value: Mapping[str, Any], name: str, kind: type[T], what: str) -> T:
    """A field of a JSON object. Raises FormError where it is missing or of another type."""
    if not isinstance(value, Mapping) or name not in value:
        raise FormError(f"{what}: '{name}' is missing")
    found = value[name]
    if not _plain(found, kind):
        raise FormError(f"{what}.{name}: {_shown(found)} is not of type {kind.__name__}")
    return typing.cast(T, found)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(value: object, hint: Any, where: str) -> None:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        _check_any(value, inner, where)
    elif origin is tuple:
        _check_tuple(value, inner, where)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        _require(isinstance(value, Mapping), value, "a table", where)
        for key, item in typing.cast(Mapping[Any, Any], value).items():
            _check(key, inner[0], where)
            _check(item, inner[1], f"{where}.{key}")
    elif origin is None and isinstance(hint, type):
        _require(_plain(value, hint), value, f"of type {hint.__name__}", where)
        if dataclasses.is_dataclass(hint):
            check(value, where)


def _check_any(value: object, choices: tuple[Any, ...], where: str) -> None:
    for choice in choices:
        try:
            _check(value, choice, where)
        except FormError:
            continue
        return
    names = " or ".join(getattr(choice, "__name__", str(choice)) for choice in choices)
    raise FormError(f"{where}: {_shown(value)} is not of type {names}")


def _check_tuple(value: object, inner: tuple[Any, ...], where: str) -> None:
    _require(isinstance(value, tuple), value, "a list", where)
    items = typing.cast(tuple[Any, ...], value)
    hints = [inner[0]] * len(items) if inner[-1] is Ellipsis else list(inner)
    _require(len(items) == len(hints), value, f"a list of {len(hints)}", where)
    for index, (item, hint) in enumerate(zip(items, hints, strict=True)):
        _check(item, hint, f"{where}[{index}]")


def _plain(value: object, kind: type) -> bool:
    """Is the value of the type? A whole number is a float too; true and false are no numbers."""
    if kind is float:
        return type(value) in (int, float)
    if kind is int:
        return type(value) is int and -(2**63) <= value < 2**63  # what a store can hold
    if kind in (bool, str):
        return type(value) is kind
    return isinstance(value, kind)


def _require(holds: bool, value: object, wanted: str, where: str) -> None:
    if not holds:
        raise FormError(f"{where}: {_shown(value)} is not {wanted}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
