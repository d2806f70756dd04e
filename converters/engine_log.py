"""What an engine's builder says: collected, read for figures, and quoted where it fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from models.spec import Option

_FIGURES = {
    "weights_bytes": re.compile(r"Total Weights Memory: (\d+)"),
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+)"),
}
_OPERATION = re.compile(r"[Oo]peration '([^']+)'")
_SOURCE = re.compile(r"\s*(In \w+ )?at /?\S+\.(cpp|h|cc):\d+\s?")
# A line of its own that repeats where an error was caught, about the driver where there is none.
_NOISE = "[checkMacros.cpp::"
_MEMORY = ("OutOfMemory", "out of memory", "std::bad_alloc")


@dataclass(slots=True)
class BuilderLog:
    """Messages as (severity, text), in order; what is only `VERBOSE` is not kept."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Option]:
        """Bytes of weights and of activations, where the builder tells them."""
        found: dict[str, Option] = {}
        for _, text in self.lines:
            for name, pattern in _FIGURES.items():
                if match := pattern.search(text):
                    found[name] = int(match.group(1))
        return found

    def first_error(self) -> str:
        """The builder's own words without its source files; empty where it complained of nothing."""
        errors = (plain(text) for severity, text in self.lines if severity == "ERROR")
        return next(filter(None, errors), "")

    def failed_operation(self) -> str:
        """The layer that an error names, as the ONNX graph names its node."""
        found = (_OPERATION.search(text) for severity, text in self.lines if severity == "ERROR")
        return next((match.group(1) for match in found if match), "")

    def out_of_memory(self) -> bool:
        return any(sign in text for severity, text in self.lines for sign in _MEMORY if severity == "ERROR")

    def __str__(self) -> str:
        return "".join(f"{severity}: {text}\n" for severity, text in self.lines)


def plain(text: str) -> str:
    """A message in one line, without the library's source files and what it says about their line."""
    lines = (_SOURCE.sub("", line).strip() for line in text.splitlines() if not line.startswith(_NOISE))
    return "; ".join(filter(None, lines))


@contextmanager
def recording(trt: Any) -> Iterator[tuple[Any, BuilderLog]]:
    """The package's logger, and what it is told inside."""
    logger, log = _logger(trt), BuilderLog()
    logger.log_to = log
    try:
        yield logger, log
    finally:
        logger.log_to = None


@cache
def _logger(trt: Any) -> Any:
    """One for the whole process: the library keeps the first that it gets, as long as anything uses it."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the package is known when it is loaded, not before
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.log_to: BuilderLog | None = None

        def log(self, severity: Any, message: str) -> None:
            if self.log_to is not None and severity.name != "VERBOSE":
                self.log_to.lines.append((severity.name, message))

    return Logger()
