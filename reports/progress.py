"""What a run is doing, shown without ever waking up by itself: a child may be measuring on the next core."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from reports.console import PlainConsole
from reports.formatting import span

_BAR_WIDTH = 40
_LINE_EVERY_NS = 10_000_000_000


class _PatientConsole(PlainConsole):
    """A reader of the progress that goes away silences it; it does not end the measuring."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress:
    """A live display on a terminal, sparse plain lines elsewhere; redrawn only when an event comes in.

    There is no refresh thread. `clock_ns` is any monotonic clock in nanoseconds.
    """

    def __init__(
        self, console: Console | None = None, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._console = console or _PatientConsole(stderr=True)
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        self._live: Live | None = None
        self._printed: set[str] = set()
        self._last_pass = -1
        self._last_line_ns = self._started_ns

    def __enter__(self) -> Self:
        self._started_ns = self._clock_ns()
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def conversion(self, done: int, total: int, what: str, step: str = "") -> None:
        """`done` of `total` artifacts are ready and `what` is being made, now at `step`."""
        where = f"Converting {what}{f': {step}' if step else ''}"
        tenth = done % max(1, total // 10) == 0
        self._show(done, total, where, "", line=f"converting: {done} of {total} done" if tenth else "")

    def round(
        self, done: int, planned: int, case_label: str, round_index: int, eta_ns: int | None = None
    ) -> None:
        """`done` of `planned` rounds are stored, and `case_label` is being measured in pass `round_index`."""
        left = f", about {span(eta_ns)} left" if eta_ns is not None else ""
        where = f"Measuring {case_label}, round {round_index + 1}"
        line = f"measuring, round {round_index + 1}: {done}/{planned} done{left}"
        self._show(done, planned, where, left, line=line if round_index != self._last_pass else "")
        self._last_pass = round_index

    def launch(
        self,
        done: int,
        planned: int,
        case_label: str,
        *,
        round_index: int,
        rounds: int,
        eta_ns: int | None = None,
    ) -> None:
        """`done` of `planned` rounds are here, and a device takes round `round_index` of a case's `rounds`.

        Where there is no terminal, each pass over the cases begins with a line, and a long one has more.
        """
        left = f", about {span(eta_ns)} left" if eta_ns is not None else ""
        what = f"{case_label}, round {round_index + 1} of {rounds}"
        now_ns = self._clock_ns()
        is_due = round_index != self._last_pass or now_ns - self._last_line_ns >= _LINE_EVERY_NS
        line = f"measuring {what}: {done}/{planned} done{left}" if is_due else ""
        self._show(done, planned, f"Measuring {what}", left, line=line)
        if is_due:
            self._last_pass, self._last_line_ns = round_index, now_ns

    def training(
        self, done: int, total: int, where: str, *, eta_ns: int | None = None, line: str = ""
    ) -> None:
        """`done` of `total` steps are done; `line` is what is printed, once, where there is no terminal."""
        left = f", about {span(eta_ns)} left" if eta_ns is not None else ""
        self._show(done, total, where, left, line=line)

    def note(self, text: str) -> None:
        """One line that stays, above the display."""
        self._console.print(Text(text), soft_wrap=True)

    def _show(self, done: int, total: int, where: str, left: str, *, line: str) -> None:
        elapsed = span(self._clock_ns() - self._started_ns)
        if self._live is None:
            if line and line not in self._printed:
                self._printed.add(line)
                self._console.print(Text(f"[{elapsed}] {line}"), soft_wrap=True)
            return
        bar = ProgressBar(total=max(total, 1), completed=done, width=min(_BAR_WIDTH, self._console.width))
        status = Text(f"{done}/{total}, {elapsed}{left}", style="dim", overflow="ellipsis", no_wrap=True)
        title = Text(where, overflow="ellipsis", no_wrap=True)
        self._live.update(Group(title, bar, status), refresh=True)
