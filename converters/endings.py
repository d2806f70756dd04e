"""What the end of a converting process says about its request."""

from __future__ import annotations

import signal

from converters.artifact import ConversionFailure


def died(code: int, step: str, printed: str) -> ConversionFailure:
    """For a process that ended at `step` with that exit code, negative for a signal.

    `printed` is the end of what its libraries wrote. Signal 9 that this process did not send is, on Linux,
    nearly always the kernel short of memory.
    """
    if code == -signal.SIGKILL:
        return ConversionFailure(
            "out_of_memory",
            step,
            "the converting process was killed (signal 9), as the kernel does when memory runs out",
            advice="Use fewer workers, a smaller batch size or resolution.",
        )
    last = f": {printed.splitlines()[-1]}" if printed else ""
    how = f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit status {code}"
    return ConversionFailure(
        "crashed",
        step,
        f"the converting process ended with {how}{last}",
        advice="Convert this model alone to see whether it crashes again; toolchain versions matter.",
    )


def too_slow(step: str, seconds: float) -> ConversionFailure:
    """For a process that was ended because it took longer than that."""
    return ConversionFailure(
        "deadline",
        step,
        f"still converting after {seconds:g} s",
        advice="Allow more time, or convert this model alone.",
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
