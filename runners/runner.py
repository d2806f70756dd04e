"""What every runtime looks like to the measuring process, and its error where it cannot do as asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runners.measurement import Failure, Job

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
    options: Mapping[str, str] = field(default_factory=dict)


class Runner(Protocol):
    """One runtime: it knows no model, keeps no time and computes no statistic.

    `clock` is the nanosecond clock that samples are taken with. Where `asynchronous` is true, `infer` may
    return early and the caller runs `synchronize` inside the sample.
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


def runtime_options(job: Job, defaults: Mapping[str, str]) -> dict[str, str]:
    """`defaults` overridden by `job.options["runtime"]`.

    Raises RunnerError for an option that this backend does not have.
    """
    given = job.options.get("runtime", {})
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        known = ", ".join(sorted(defaults)) or "none"
        raise RunnerError(
            "load",
            f"backend '{job.backend}' has no option '{unknown[0]}'",
            f"Remove it, or use one of: {known}.",
        )
    return {**defaults, **{name: str(value) for name, value in given.items()}}


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
