"""What a conversion must have for itself alone while it is made, such as the GPU that a build is timed on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from converters.artifact import ConversionRequest

Hold = Callable[[ConversionRequest], AbstractContextManager[None]]


class Reservations(Protocol):
    """Asked by a pool before a request is given to a worker, and told when that worker is done or gone."""

    def take(self, request: ConversionRequest) -> bool:
        """Whether the request may be made now; what it needs is then held. Never waits."""

    def release(self, request: ConversionRequest) -> None:
        """Gives back what `take` holds for it; nothing where that is nothing."""


class Unshared:
    """Nothing is reserved: for requests that use no device."""

    def take(self, request: ConversionRequest) -> bool:
        return True

    def release(self, request: ConversionRequest) -> None:
        pass
