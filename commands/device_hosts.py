"""The device that a driver sees now, ready to be given jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError
from device_agents.host import Host, Observe
from device_agents.problems import DeviceProblem
from runners.locks import WAIT_SECONDS, acquire, default_folder
from runners.runner import RunnerError
from runners.suite import DeviceBusyError

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo
    from device_agents.transport import Device, Transport


THIS_MACHINE = ("local", "mac")  # their agents share the processor with every other measurement here


class SeveralDevicesError(UsageError):
    """More than one device is here, and none was named; the message has their aliases."""


def mailbox(outbox: Path, name: str) -> Path:
    """The folder that plays the device's, for a driver that measures this machine."""
    return outbox / f"this-machine-{name}"


def found_devices(outbox: Path, info: DriverInfo) -> list[tuple[Transport, Device]]:
    """Every device that the driver's tools see. Raises DeviceProblem."""
    carriers = info.transports(mailbox(outbox, info.name))
    return [(carrier, device) for carrier in carriers for device in carrier.devices()]


def connect(
    info: DriverInfo, outbox: Path, *, observe: Observe, alias: str = "", install: Path | None = None
) -> Host:
    """The host of the only device, or of the one with that alias. `install` is an app to put on it first.

    Raises DeviceProblem where none is here, SeveralDevicesError where several are and none was named.
    """
    if why := info.missing():
        raise DeviceProblem("tool_missing", why)
    carrier, device = _only(info, found_devices(outbox, info), alias)
    if device.state:
        raise DeviceProblem(device.state, f"{device.alias} ({device.model}) cannot be used")
    if install is not None:
        if not install.exists():
            raise UsageError(f"--install: {install} is not there")
        carrier.install(device, install)
    return Host(carrier, device, observe=observe)


def _only(info: DriverInfo, found: list[tuple[Transport, Device]], alias: str) -> tuple[Transport, Device]:
    if alias:
        found = [(carrier, device) for carrier, device in found if device.alias == alias]
    unique = {device.identifier: (carrier, device) for carrier, device in reversed(found)}
    if not unique:
        raise DeviceProblem("unplugged", f"driver {info.name} sees no {alias or 'device'}")
    if len(unique) > 1:
        names = ", ".join(sorted(device.alias for _, device in unique.values()))
        raise SeveralDevicesError(f"there are several devices: choose one with --device: {names}")
    return next(iter(unique.values()))


@contextmanager
def only_one_on(device: str) -> Iterator[None]:
    """Holds the device's lock. Raises DeviceBusyError; a phone in software needs none."""
    if device == "simulated":
        yield
        return
    name = "cpu" if device in THIS_MACHINE else device
    try:
        descriptor = acquire(default_folder(), name, wait_seconds=WAIT_SECONDS, purpose=f"agent of {device}")
    except RunnerError as error:
        raise DeviceBusyError(f"{error}. {error.advice}") from None
    try:
        yield
    finally:
        os.close(descriptor)
