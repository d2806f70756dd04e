"""A module with some methods of its own: same parts, same class's name, another answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from models.folding import replaced


def answering(source: nn.Module, **methods: Callable[..., Any]) -> nn.Module:
    """A shallow copy of `source` whose `methods` are these; it keeps the names of its class and its parts.

    The class's module is this one, so that nobody takes the copy for a module in the published form.
    """
    kind = type(source)
    made = replaced(source)
    own = {name: _method(function) for name, function in methods.items()}
    made.__class__ = type(kind.__name__, (kind,), {**own, "__module__": __name__})
    return made


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function: a `partial` in a class would not be told its `self`.

    It has the signature of the other: `torch.export` asks for it where axes are open.
    """

    @functools.wraps(function)
    def method(self: nn.Module, *arguments: Any, **named: Any) -> Any:
        return function(self, *arguments, **named)

    return method
