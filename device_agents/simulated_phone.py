"""A phone in software: the app's loop behind a transport, and everything that can go wrong on the way.

It speaks the mailbox byte for byte and runs no network. A fault happens at a numbered moment: the n-th append
to a journal, the n-th call of the transport, or the n-th prediction, counted over the phone's life.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from device_agents import app
from device_agents.problems import DeviceProblem
from device_agents.simulated_engine import SimulatedEngine
from device_agents.transport import Device, LaunchEnd

MOMENTS = ("append", "call", "prediction")
WHENS = ("before", "half", "after")
EFFECTS = ("kill", "memory", "crash", "lock", "unplug", "full", "throttle")
_SIGNALS = {"kill": 15, "memory": 9, "crash": 11, "lock": 0, "full": 0}


@dataclass(frozen=True, slots=True)
class Fault:
    """`effect` at the `number`-th `moment` (from 0); `half` leaves half of a line or file."""

    effect: str
    moment: str
    number: int
    when: str = "before"

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS or self.moment not in MOMENTS or self.when not in WHENS:
            raise ValueError(f"no such fault: {self}; known: {EFFECTS}, {MOMENTS}, {WHENS}")


class _Died(BaseException):
    """The app is gone, in the middle of whatever it did: nothing of it may catch this."""

    def __init__(self, effect: str) -> None:
        self.effect = effect


@dataclass
class SimulatedPhone:
    """Both the phone and the cable. `folder` is the app's mailbox on it."""

    folder: Path
    faults: tuple[Fault, ...] = ()
    engine: SimulatedEngine = field(default_factory=SimulatedEngine)
    name: str = "simulated"
    installed: bool = True
    locked: bool = False
    plugged: bool = True
    full: bool = False
    waits: bool = True
    appends: int = 0
    calls: int = 0
    predictions: int = 0
    launches: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.engine.on_predict = self._predicted

    def mend(self) -> None:
        """What the user is told to do: plug it in, unlock it, free some space."""
        self.locked, self.plugged, self.full = False, True, False

    # -- the cable: device_agents.transport.Transport -----------------------------------------------------

    def devices(self) -> list[Device]:
        self._call("devices")
        state = "locked" if self.locked else ""
        return [Device("SIMULATED-0001", "simulated phone", "simulated 1.0", self.name, state)]

    def install(self, device: Device, app: Path) -> None:
        self._call("install")
        self.installed = True

    def push(self, device: Device, source: Path, name: str) -> None:
        self._call(f"push {name}", lambda share: _copy(source, self.folder / name, share))

    def pull(self, device: Device, name: str, target: Path) -> bool:
        there = (self.folder / name).is_file()
        self._call(f"pull {name}", lambda share: _copy(self.folder / name, target, share) if there else None)
        return there

    def launch(self, device: Device, *, timeout_s: float) -> LaunchEnd:
        if not self.installed:
            raise DeviceProblem("app_missing", "the simulated phone has no BenchRunner")
        end = LaunchEnd(True)

        def started(share: float) -> None:
            nonlocal end
            if share == 1:
                end = self._run_app()

        self._call("launch", started)
        if self.locked:
            raise DeviceProblem("locked", "the phone was locked while the app ran")
        self._need_cable()
        return end if self.waits else LaunchEnd(False)

    def is_running(self, device: Device) -> bool:
        self._call("is_running")
        return False

    # -- inside -------------------------------------------------------------------------------------------

    def _run_app(self) -> LaunchEnd:
        self.launches += 1
        self.engine.unload()
        try:
            app.start(self.folder, self.engine, append=self._append)
        except _Died as died:
            return LaunchEnd(True, _SIGNALS.get(died.effect, 0))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DeviceProblem("disk_full", "the app could not write: no space left on the phone") from None
        return LaunchEnd(True)

    def _append(self, path: Path, line: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fault = self._due("append", self.appends)
        self.appends += 1
        shares = {"before": 0, "half": len(line) // 2, "after": len(line)}
        if fault is None or fault.effect in ("throttle", "unplug"):
            _write(path, line)
            self._happen(fault)
            return
        _write(path, line[: shares[fault.when]])
        self._happen(fault)
        if fault.effect == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        raise _Died(fault.effect)

    def _predicted(self) -> None:
        fault = self._due("prediction", self.predictions)
        self.predictions += 1
        self._happen(fault)
        if fault is not None and fault.effect not in ("throttle", "unplug"):
            raise _Died(fault.effect)

    def _call(self, what: str, effect: Callable[[float], None] = lambda share: None) -> None:
        """A call of the transport: the fault happens before it, in the middle of it or behind it."""
        self.log.append(what)
        self._need_cable()
        if self.locked and not what.startswith(("pull", "devices")):
            raise DeviceProblem("locked", "the phone is locked")
        fault = self._due("call", self.calls)
        self.calls += 1
        if fault is None:
            effect(1)
            return
        if fault.when != "before":
            effect(0.5 if fault.when == "half" else 1)
        self._happen(fault)
        self._need_cable()
        if self.locked:
            raise DeviceProblem("locked", "the phone was locked")

    def _need_cable(self) -> None:
        if not self.plugged:
            raise DeviceProblem("unplugged", "the phone does not answer")

    def _due(self, moment: str, number: int) -> Fault | None:
        found = (f for f in self.faults if f.moment == moment and f.number == number)
        return next(found, None)

    def _happen(self, fault: Fault | None) -> None:
        if fault is None:
            return
        self.locked = self.locked or fault.effect == "lock"
        self.plugged = self.plugged and fault.effect != "unplug"
        self.full = self.full or fault.effect == "full"
        if fault.effect == "throttle":
            self.engine.slower_permille = 500


def _write(path: Path, data: bytes) -> None:
    """Not forced to the disk: a simulated phone loses its power together with this machine."""
    with path.open("ab") as file:
        file.write(data)


def _copy(source: Path, target: Path, share: float) -> None:
    if share == 1:
        shutil.copyfile(source, target)
    else:
        data = source.read_bytes()
        target.write_bytes(data[: int(len(data) * share)])
