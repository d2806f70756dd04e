"""How files reach a phone and come back, and how the app is started: what devicectl and others must do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BUNDLE_ID = "org.deploybench.BenchRunner"


@dataclass(frozen=True, slots=True)
class Device:
    """`identifier` is what the tool takes: it is shown and stored only as `alias`.

    `state` is empty where the device can be used, else a name of problems.PROBLEMS.
    """

    identifier: str
    model: str
    os: str
    transport: str
    state: str = ""

    @property
    def alias(self) -> str:
        return alias(self.identifier)


def alias(identifier: str) -> str:
    """A name for an identifier that does not tell it: 12 hex digits of its salted sha256."""
    return "device-" + hashlib.sha256(f"deploybench device {identifier}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class LaunchEnd:
    """`ended` is false where the tool returns while the app goes on; `signal` what ended it, 0 if none."""

    ended: bool
    signal: int = 0


class Transport(Protocol):
    """Every method raises DeviceProblem. Remote names lie in the app's mailbox (mailbox.py)."""

    @property
    def name(self) -> str:
        """Of the tool."""

    def devices(self) -> list[Device]:
        """Those that are connected, usable or not."""

    def install(self, device: Device, app: Path) -> None:
        """Put the app there, or replace it."""

    def push(self, device: Device, source: Path, name: str) -> None:
        """Copy a file into the mailbox, replacing one of that name."""

    def pull(self, device: Device, name: str, target: Path) -> bool:
        """Copy a file out of the mailbox; False where there is none."""

    def launch(self, device: Device, *, timeout_s: float) -> LaunchEnd:
        """Start the app, and wait for its end where the tool can. Problem `timed_out` after `timeout_s`."""

    def is_running(self, device: Device) -> bool:
        """After a launch that returned at once: does the app still run?"""
