"""One operation of a Core ML program as its implementation is given it: arguments by name, values in torch.

Floating-point values arrive in the type that is computed in (fp32 or float64), whatever type the program
declares; the interpreter rounds the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor

Argument = Tensor | tuple[Tensor, ...] | str
Shape = tuple[int | None, ...]  # None where a side is left open


class UnsupportedOpError(Exception):
    """An operation, or a setting of one, that is not implemented: refused, never skipped."""


@dataclass(frozen=True, slots=True)
class Call:
    """`type` is the operator, `name` its (first) output, `arguments` its inputs and attributes by name."""

    type: str
    name: str
    arguments: Mapping[str, Argument]

    def tensor(self, name: str) -> Tensor:
        """A required tensor. Raises UnsupportedOpError where it is missing or is no tensor."""
        value = self.arguments.get(name)
        if not isinstance(value, Tensor):
            self.refuse(f"{name} is missing or no tensor")
        return value

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.arguments else None

    def tensors(self, name: str) -> tuple[Tensor, ...]:
        value = self.arguments.get(name)
        return value if isinstance(value, tuple) else (self.tensor(name),)

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        if name not in self.arguments and default is not None:
            return tuple(default)
        return tuple(int(value) for value in self.tensor(name).reshape(-1).tolist())

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self.number(name, default))

    def number(self, name: str, default: float | None = None) -> float:
        if name not in self.arguments and default is not None:
            return default
        value = self.tensor(name)
        if value.numel() != 1:
            self.refuse(f"{name} has {value.numel()} values; one is expected")
        return float(value.item())

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.number(name, default))

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        return tuple(map(bool, self.integers(name, (0,) * count)))

    def text(self, name: str, default: str = "") -> str:
        value = self.arguments.get(name, default)
        if not isinstance(value, str):
            self.refuse(f"{name} is no text")
        return value

    def one_of(self, name: str, known: Sequence[str], default: str = "") -> str:
        """Raises UnsupportedOpError for a word that is not in `known`."""
        value = self.text(name, default)
        if value not in known:
            self.refuse(f"{name}={value!r}; known are {', '.join(known)}")
        return value

    def refuse(self, why: str) -> NoReturn:
        raise UnsupportedOpError(f"{self.type} '{self.name}': {why}")


Result = Tensor | tuple[Tensor, ...]
Implementation = Callable[[Call], Result]
