"""Nothing that a toolchain prints reaches the terminal, from Python or from below it."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings

import pytest

from converters.quiet import captured


def test_every_way_of_printing_is_collected(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as printed:
        print("from print")
        print("to stderr", file=sys.stderr)
        warnings.warn("a warning", UserWarning, stacklevel=1)
        os.write(1, b"from the descriptor\n")
        ctypes.CDLL(None).puts(b"from C")
        text = printed.getvalue()
    assert all(line in text for line in ("from print", "to stderr", "from the descriptor", "from C"))
    assert "UserWarning: a warning" in printed.text.getvalue()
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_streams_are_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with captured():
            os.write(1, b"lost")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    os.write(1, b"seen")
    logging.getLogger("test").debug("nothing")
    assert capfd.readouterr() == ("seen", "")


def test_nesting(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as outer:
        os.write(1, b"outer ")
        with captured() as inner:
            os.write(1, b"inner")
            assert inner.getvalue() == "inner"
        assert outer.getvalue() == "outer "
    assert capfd.readouterr() == ("", "")
