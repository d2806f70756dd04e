from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from reports.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def stage():
    """(progress, its output, its clock) on a terminal or a plain stream."""

    def make(*, terminal: bool, width: int = 80):
        stream, clock = io.StringIO(), Clock()
        console = Console(file=stream, force_terminal=terminal, width=width, height=10)
        return Progress(console, clock_ns=clock), stream, clock

    return make


def test_a_plain_stream_gets_sparse_lines_without_escape_codes(stage):
    progress, stream, clock = stage(terminal=False)
    with progress:
        progress.conversion(0, 2, "block/ncb 14x14x384", "exported")
        progress.conversion(0, 2, "block/ncb 14x14x384", "simplified")
        progress.conversion(1, 2, "block/ntb 14x14x384", "exported")
        clock.now = 65_000_000_000
        for done in range(4):
            progress.round(done, 10, "block/ncb", done // 2, 30_000_000_000)
        progress.note("block/lsa: [failed] out of memory")
    assert stream.getvalue().splitlines() == [
        "[0 ns] converting: 0 of 2 done",
        "[0 ns] converting: 1 of 2 done",
        "[1 min 05 s] measuring, round 1: 0/10 done, about 30 s left",
        "[1 min 05 s] measuring, round 2: 2/10 done, about 30 s left",
        "block/lsa: [failed] out of memory",
    ]


def test_a_terminal_shows_what_is_measured_how_far_and_how_long(stage):
    progress, stream, clock = stage(terminal=True)
    with progress:
        clock.now = 12_000_000_000
        progress.round(3, 10, "block/ncb 14x14x384", 1, 40_000_000_000)
    text = stream.getvalue()
    assert "Measuring block/ncb 14x14x384, round 2" in text
    assert "3/10, 12 s, about 40 s left" in text


def test_launches_on_a_device_name_case_round_and_time_left(stage):
    """A line for each pass, and one more where ten seconds went by; a resumed run does not begin at 0."""
    progress, stream, clock = stage(terminal=False)
    with progress:
        launches = ((0, 2, "ncb", 1), (4, 3, "ntb", 1), (15, 4, "lsa", 1), (16, 5, "ncb", 2))
        for seconds, done, label, place in launches:
            clock.now = seconds * 1_000_000_000
            progress.launch(done, 9, label, round_index=place, rounds=3, eta_ns=8_000_000_000)
    assert stream.getvalue().splitlines() == [
        "[0 ns] measuring ncb, round 2 of 3: 2/9 done, about 8 s left",
        "[15 s] measuring lsa, round 2 of 3: 4/9 done, about 8 s left",
        "[16 s] measuring ncb, round 3 of 3: 5/9 done, about 8 s left",
    ]
    progress, stream, _ = stage(terminal=True)
    with progress:
        progress.launch(0, 9, "block/ncb 14x14x384", round_index=0, rounds=3)
    assert "Measuring block/ncb 14x14x384, round 1 of 3" in stream.getvalue()
    assert "0/9, 0 ns" in stream.getvalue()


def test_nothing_is_drawn_between_events_and_no_thread_runs(stage):
    before = set(threading.enumerate())
    progress, stream, _ = stage(terminal=True)
    with progress:
        progress.round(0, 10, "block/ncb", 0, None)
        assert set(threading.enumerate()) == before
        drawn = stream.getvalue()
        threading.Event().wait(0.4)
        assert stream.getvalue() == drawn


def test_an_unknown_time_left_is_not_shown(stage):
    progress, stream, _ = stage(terminal=False)
    with progress:
        progress.round(0, 10, "block/ncb", 0)
    assert "left" not in stream.getvalue()


@pytest.mark.parametrize("width", [20, 40])
def test_a_narrow_terminal_cuts_lines(stage, width):
    progress, stream, _ = stage(terminal=True, width=width)
    with progress:
        progress.round(3, 10, "block/" + "x" * 100, 1, 40_000_000_000)
    assert "…" in stream.getvalue()


def test_an_exception_restores_the_terminal(stage):
    progress, stream, _ = stage(terminal=True)

    def interrupted() -> None:
        with progress:
            progress.round(0, 10, "block/ncb", 0, None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
