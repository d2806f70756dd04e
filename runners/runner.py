"""What every runtime looks like to the measuring process, and its error where it cannot do as asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from runners import backend_info
from runners.measurement import Failure, Job, Samples
from runners.options import OptionError, read

Array = npt.NDArray[Any]
Clock = Callable[[], int]

HOST_CLOCK: Clock = time.perf_counter_ns
BLOCKING = "the call returns when the outputs are ready"


@dataclass(frozen=True, slots=True)
class Description:
    """What a loaded runner says about itself: the part of the protocol that only the runtime knows.

    `runtime` holds package, version and provider; `options` are read back from the runtime where it allows.
    """

    runtime: str
    timed: str
    sync: str = BLOCKING
    transfers: str = "none"
    clock: str = "host"
    queue_depth: int = 1
    cuda_graph: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Sampler(Protocol):
    """Takes samples on a device's clock, where a runner has one; the timing loop asks it for each.

    Loop counts are multiples of `least_loops`.
    """

    least_loops: int

    def sample(self, order: tuple[int, ...]) -> int:
        """Device nanoseconds of one inference on each input of `order`, waited for."""

    def reserve(self, count: int) -> None:
        """Makes room for the parts of `count` samples and forgets those before."""

    def parts(self, count: int) -> dict[str, Samples]:
        """Other spans beside the first `count` samples since `reserve`, by name (see Round)."""


@dataclass(frozen=True, slots=True)
class DeviceSide:
    """What a runner whose work runs on a GPU tells beside its outputs.

    `peak_bytes` gives (device memory in bytes, how that was found); `layers` profiles one inference, after
    the timed part: nanoseconds by layer. `pci_bus_id` is empty where the runtime does not tell it.
    """

    sampler: Sampler
    peak_bytes: Callable[[], tuple[int, str]]
    layers: Callable[[], Mapping[str, int]] = dict
    pci_bus_id: str = ""


class Runner(Protocol):
    """One runtime: it knows no model, keeps no time and computes no statistic.

    `clock` is the nanosecond clock that samples are taken with. Where `asynchronous` is true, `infer` may
    return early and the caller runs `synchronize` inside the sample. A runner on a GPU has an attribute
    `device_side` once it is loaded, a DeviceSide whose sampler is used instead; others lack it or it is None.
    """

    clock: Clock
    asynchronous: bool

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        """File to ready session on `job.device`; raises RunnerError for what cannot be done as asked."""

    def infer(self, index: int) -> object:
        """One inference on input `index`: exactly what is timed."""

    def synchronize(self) -> None:
        """Returns when everything that `infer` started has finished."""

    def outputs(self, index: int) -> list[Array]:
        """Host copies of the outputs of one inference on input `index`, by the path that is timed."""

    def describe(self) -> Description:
        """Facts of the loaded runtime, for the protocol."""

    def close(self) -> None:
        """Frees the session, for callers in their own process; a measuring process just exits."""


class RunnerError(Exception):
    """What a runner or the measuring process cannot do as asked; `kind` is one of Failure's."""

    def __init__(self, kind: str, message: str, advice: str = "", **detail: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.advice = advice
        self.detail = detail

    def failure(self) -> Failure:
        return Failure(self.kind, str(self), self.advice, detail=self.detail)


def runtime_options(job: Job) -> dict[str, Any]:
    """Every option of the job's backend, as `job.options["runtime"]` sets it, or else its default.

    Each has the type of its default. Raises RunnerError `load` for what the backend's table does not allow.
    """
    known, given = backend_info(job.backend).options, job.options.get("runtime", {})
    try:
        return read(known, given, device=job.device.partition(":")[0])
    except OptionError as error:
        raise RunnerError("load", f"backend '{job.backend}': {error}", error.advice) from None


def require_precision(job: Job, found: str, where: str) -> None:
    """Raises RunnerError `precision_mismatch` unless the runtime runs what was asked for."""
    if found != job.precision:
        raise RunnerError(
            "precision_mismatch",
            f"{where} runs {found} where {job.precision} was asked for",
            f"Ask for {found}, or use a machine and runtime that run {job.precision}.",
            asked=job.precision,
            found=found,
        )


def as_arrays(values: Sequence[Any]) -> list[Array]:
    """Host arrays that own their memory, so a reused output buffer cannot change them later."""
    return [np.array(value) for value in values]
