"""What it means when a measuring process ends without a result: a typed failure with advice."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from runners.measurement import Failure

SHOWN_LINES = 20
CRASHES = {
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGSYS,
    signal.SIGTRAP,
}

MEMORY_ADVICE = "Use a smaller batch or resolution, or give the machine or its control group more memory."
SIGNAL_ADVICE = {
    signal.SIGSEGV: "The runtime touched memory that is not its own: try another version of it.",
    signal.SIGABRT: "The runtime gave up on an error of its own: the last lines that it printed say which.",
    signal.SIGILL: "The runtime uses instructions that this CPU does not have: install a build for it.",
    signal.SIGKILL: "Someone else ended it: a person, a job scheduler, or an unseen memory limit.",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its status as `subprocess` gives it, and everything known beside it."""

    returncode: int
    phase: str
    printed: str = ""
    late_after_seconds: float | None = None
    malformed: str = ""
    incomplete_bytes: int = 0
    oom_kills: int = 0


def failure(ending: Ending) -> Failure:
    """The failure of a process that gave no result."""
    detail = {"phase": ending.phase, "output": _last_lines(ending.printed), "oom_kills": ending.oom_kills}
    kind, message, advice, number = _judge(ending)
    return Failure(kind, message, advice, signal=number, detail=detail)


def _judge(ending: Ending) -> tuple[str, str, str, int]:
    """(kind, message, advice, signal)."""
    if ending.late_after_seconds is not None:
        return _late(ending)
    if ending.malformed:
        message = f"the measuring process sent a malformed result ({ending.malformed})"
        return (
            "crashed",
            message,
            "Something wrote into its result pipe: try another version of the runtime.",
            0,
        )
    if ending.returncode < 0:
        return _signalled(ending, -ending.returncode)
    return _exited(ending)


def _late(ending: Ending) -> tuple[str, str, str, int]:
    message = (
        f"no result after {ending.late_after_seconds:g} s, in phase '{ending.phase}'; the process was killed"
    )
    advice = "Raise deadline_seconds if the model is that slow; otherwise the runtime hangs."
    return "deadline", message, advice, int(signal.SIGKILL)


def _signalled(ending: Ending, number: int) -> tuple[str, str, str, int]:
    name = _signal_name(number)
    where = f"the measuring process was ended by {name} in phase '{ending.phase}'"
    if number == signal.SIGKILL and ending.oom_kills > 0:
        return "out_of_memory", f"{where}: the kernel was out of memory", MEMORY_ADVICE, number
    kind = "crashed" if number in CRASHES else "killed"
    default = "See the last lines that it printed." if kind == "crashed" else "Someone else ended it."
    advice = next((text for known, text in SIGNAL_ADVICE.items() if known == number), default)
    return kind, where, advice, number


def _exited(ending: Ending) -> tuple[str, str, str, int]:
    part = f", {ending.incomplete_bytes} bytes of an incomplete result" if ending.incomplete_bytes else ""
    message = (
        f"no result: the measuring process exited with status {ending.returncode} in phase '{ending.phase}'"
    )
    return "crashed", message + part, "See the last lines that it printed.", 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-SHOWN_LINES:])[-4000:]
