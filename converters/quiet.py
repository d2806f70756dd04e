"""Toolchains print and warn a lot; none of it is the user's business unless something fails."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

_private = False


def descriptors_are_private() -> None:
    """Say that descriptors 1 and 2 of this process are a readable file of its parent's.

    Then nothing has to be hidden, and what is printed before a crash stays where the parent can read it.
    """
    global _private
    _private = True


class Printed:
    """What was printed: by Python, and by C++ code that writes to the descriptors (TorchScript does)."""

    def __init__(self, descriptor: int) -> None:
        self.text = io.StringIO()
        self._descriptor = descriptor
        self._start = os.fstat(descriptor).st_size

    def getvalue(self) -> str:
        _flush()
        size = os.fstat(self._descriptor).st_size - self._start
        return self.text.getvalue() + os.pread(self._descriptor, size, self._start).decode(errors="replace")


@contextlib.contextmanager
def captured() -> Iterator[Printed]:
    """Collect what is printed, logged to the console or warned inside; nothing reaches the terminal.

    Descriptors belong to the whole process: what another thread prints meanwhile is collected too.
    """
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        printed = Printed(2) if _private else _hidden(stack)
        yield printed
        for warning in caught or ():
            printed.text.write(f"{warning.category.__name__}: {warning.message}\n")


def _hidden(stack: contextlib.ExitStack) -> Printed:
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  the stack closes it
    printed = Printed(file.fileno())
    for descriptor in (1, 2):
        stack.enter_context(_redirected(descriptor, file.fileno()))
    stack.enter_context(contextlib.redirect_stdout(printed.text))
    stack.enter_context(contextlib.redirect_stderr(printed.text))
    return printed


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    _flush()
    saved = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        _flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def _flush() -> None:
    """Python's buffers and C's: what is left in them would come out after the descriptors are back."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)
