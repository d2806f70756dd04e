"""Reading JSON that another machine wrote: every key, type, size and count is checked before it is used.

Numbers are whole: times are nanoseconds, shares are parts per billion, so that two programs in two languages
write the same bytes for the same value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, cast

T = TypeVar("T")
MAX_INTEGER = 2**63 - 1
MAX_TEXT = 4096
HEX16, SHA256 = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}(\.[A-Za-z0-9]{1,12}){0,2}")


class FormError(ValueError):
    """A value has not the form that it must have; the message says where and what."""


def canonical(value: object) -> bytes:
    """The one JSON text of a plain value: sorted keys, no spaces, UTF-8, whole numbers only."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def parsed(text: bytes, what: str, *, max_bytes: int) -> dict[str, Any]:
    """A JSON object out of untrusted bytes. Raises FormError for what `canonical` cannot have written."""
    if len(text) > max_bytes:
        raise FormError(f"{what}: {len(text)} bytes, at most {max_bytes}")
    try:
        value = json.loads(
            text.decode(), parse_float=_refused, parse_constant=_refused, object_pairs_hook=_once
        )
        same = canonical(value) == text
    except (ValueError, RecursionError) as error:
        raise FormError(f"{what}: no JSON of this program ({str(error)[:120]})") from None
    if not isinstance(value, dict):
        raise FormError(f"{what}: no JSON object")
    if not same:
        raise FormError(f"{what}: not the canonical text (sorted keys, no spaces)")
    return value


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no whole number")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands there twice")
    return value


class Form:
    """A JSON object whose every key must be asked for: `done()` refuses what is left."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise FormError(f"{what}: {_shown(value)} is no table")
        self._value = cast(Mapping[str, Any], value)
        self._what = what
        self._seen: set[str] = set()

    def has(self, name: str) -> bool:
        """For a key that may be left out."""
        return name in self._value

    def integer(self, name: str, least: int = 0, most: int = MAX_INTEGER) -> int:
        value = self._get(name)
        if type(value) is not int or not least <= value <= most:
            raise self._error(name, value, f"a whole number from {least} to {most}")
        return value

    def boolean(self, name: str) -> bool:
        value = self._get(name)
        if type(value) is not bool:
            raise self._error(name, value, "true or false")
        return value

    def text(self, name: str, pattern: re.Pattern[str] | None = None, *, most: int = MAX_TEXT) -> str:
        value = self._get(name)
        if type(value) is not str or len(value) > most or (pattern and not pattern.fullmatch(value)):
            wanted = f"a text like {pattern.pattern}" if pattern else f"a text of at most {most} characters"
            raise self._error(name, value, wanted)
        return value

    def one_of(self, name: str, known: Sequence[str]) -> str:
        value = self._get(name)
        if value not in known:
            raise self._error(name, value, f"one of {', '.join(known)}")
        return cast(str, value)

    def integers(
        self, name: str, *, most: int, least: int = 0, highest: int = MAX_INTEGER
    ) -> tuple[int, ...]:
        """A list of at most `most` whole numbers from `least` to `highest`."""
        value = self._list(name, most)
        for index, item in enumerate(value):
            if type(item) is not int or not least <= item <= highest:
                raise self._error(f"{name}[{index}]", item, f"a whole number from {least} to {highest}")
        return tuple(value)

    def texts(self, name: str, *, most: int, length: int = 256) -> tuple[str, ...]:
        value = self._list(name, most)
        for index, item in enumerate(value):
            if type(item) is not str or len(item) > length:
                raise self._error(f"{name}[{index}]", item, f"a text of at most {length} characters")
        return tuple(value)

    def table(self, name: str) -> Mapping[str, Any]:
        """A JSON object that someone else reads further."""
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._error(name, value, "a table")
        return value

    def form(self, name: str, make: Callable[[Form], T]) -> T:
        return whole(self._get(name), f"{self._what}.{name}", make)

    def forms(self, name: str, make: Callable[[Form], T], *, most: int) -> tuple[T, ...]:
        items = self._list(name, most)
        return tuple(whole(item, f"{self._what}.{name}[{i}]", make) for i, item in enumerate(items))

    def done(self) -> None:
        """Raises FormError for a key that nobody asked for."""
        unknown = sorted(set(self._value) - self._seen)
        if unknown:
            raise FormError(
                f"{self._what}: unknown key {unknown[0][:60]!r}; known: {', '.join(sorted(self._seen))}"
            )

    def _get(self, name: str) -> Any:
        self._seen.add(name)
        if name not in self._value:
            raise FormError(f"{self._what}: '{name}' is missing")
        return self._value[name]

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._error(name, value, f"a list of at most {most}")
        return value

    def _error(self, name: str, value: object, wanted: str) -> FormError:
        return FormError(f"{self._what}.{name}: {_shown(value)} is not {wanted}")


def whole(value: object, what: str, make: Callable[[Form], T]) -> T:
    """`make` of the form, which must have asked for every key that is there."""
    form = Form(value, what)
    made = make(form)
    form.done()
    return made


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
