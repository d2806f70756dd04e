"""Which cases the agent of a device measures, by which driver, and whether that driver can work here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from commands import UsageError
from models import tables
from models.spec import Case
from models.tables import suggest
from runners import BackendInfo, availability, backend_info, parse_device

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo


@cache
def driver(name: str) -> DriverInfo:
    """Raises UsageError with the nearest names."""
    from device_agents import DRIVERS

    try:
        found: DriverInfo = tables.lookup(DRIVERS, "drivers", name)
    except tables.UnknownNameError as error:
        raise UsageError(str(error)) from None
    return found


@cache
def drivers() -> tuple[str, ...]:
    """Every driver's name, those of other packages too."""
    from device_agents import DRIVERS

    return tables.names(DRIVERS, "drivers")


def driver_for(backend: BackendInfo, device: str) -> DriverInfo | None:
    """The driver whose agent runs the backend's files on a device; None where a process here does."""
    if not backend.agent_format or device in ("cpu", "cuda") or device not in drivers():
        return None
    found = driver(device)
    return found if found.runs_jobs and found.model_format == backend.agent_format else None


def driver_of(case: Case) -> DriverInfo | None:
    """As `driver_for`, of a case."""
    return driver_for(backend_info(case.backend), case.device)


def devices_of(backend: BackendInfo) -> tuple[str, ...]:
    """Where a backend can run: the devices of its table, and other packages' drivers that take its files."""
    if not backend.agent_format:
        return backend.devices
    others = [name for name in drivers() if driver_for(backend, name)]
    return tuple(dict.fromkeys((*backend.devices, *others)))


def runs_on(backend: BackendInfo, device: str) -> bool:
    """Is the device one of the backend's? With an index (`cuda:1`) only where no agent measures it."""
    if driver_for(backend, device):
        return True
    kind, _ = parse_device(device)
    return kind in backend.devices and not driver_for(backend, kind)


def compute_units(
    backend: BackendInfo, device: str, *, asked: Sequence[str], configured: Sequence[str]
) -> tuple[str, ...]:
    """What is asked for, else what bench.toml names, else the driver's usual one; one empty one without any.

    Raises UsageError for a unit that the driver has not, and for one that is asked of a backend without.
    """
    found = driver_for(backend, device)
    if found is None:
        if asked:
            raise UsageError(
                f"--compute-unit {','.join(asked)}: backend '{backend.name}' on device '{device}' has no"
                " compute units: leave out --compute-unit, or run that backend on its own"
            )
        return ("",)
    wanted = tuple(asked) or tuple(configured) or found.compute_units[-1:]
    unknown = next((unit for unit in wanted if unit not in found.compute_units), None)
    if unknown is not None:
        near = suggest(unknown, found.compute_units)
        raise UsageError(f"driver {found.name} has no compute unit '{unknown}': {near}")
    return wanted


def check(case: Case) -> None:
    """Raises UsageError for what the agent that measures a case cannot be asked."""
    found = driver_of(case)
    if found is None:
        return
    if case.threads != 1:
        raise UsageError(
            f"{case.label}: the agent of '{case.device}' is not told a number of threads: leave out --threads"
        )
    if case.runtime:
        raise UsageError(
            f"{case.label}: the agent of '{case.device}' takes no runtime options: leave out"
            f" {case.runtime[0][0]}"
        )
    if dict(case.build).get("input_type") == "image":
        raise UsageError(f"{case.label}: agents are given tensors: leave out input_type=image")


def missing(backend: str, device: str) -> str:
    """Why a backend cannot be timed on a device here, and the fix, parted by `; `; empty where it can.

    Whether a phone is plugged in is not asked: that takes seconds.
    """
    info = backend_info(backend)
    found = driver_for(info, device)
    if found is None:
        return availability(backend, device) or ""
    return found.missing()
