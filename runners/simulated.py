"""A runtime that runs no network: latencies drawn from a description, on a clock of its own, and faults.

Its artifact is a small JSON file, a Simulation. It exists so that everything above a runner can be tested
like an instrument, with known truth and in no time; it is never chosen unless asked for by name.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from runners.measurement import Job
from runners.runner import Array, Description, RunnerError, require_precision, runtime_options

SCHEMA = 1
DRAWS = 4096


@dataclass(frozen=True, slots=True)
class Simulation:
    """A latency distribution with a known median, and what goes wrong.

    Inference i of a process takes `median_ns` x exp(`between_sigma` b) x exp(`sigma` z_i), where b is drawn
    once per process and z is AR(1) with `correlation`; a share `second_share` of inferences is
    `second_ratio` times slower; `drift_per_second` grows with the virtual time; from inference `step_after`
    on it is `step_ratio` times slower; the first `slow_start` inferences are up to `slow_start_ratio` times
    slower. `fault` (a key of FAULTS, or of ALTERATIONS) strikes in `fault_phase` (`load` or `infer`) after
    `fault_after` inferences, in round `fault_round` or, at -1, in every round; `clock_forward` strikes
    a process once. `runs_precision` is the precision that it really runs, if not the one asked for.
    """

    median_ns: float = 1e6
    sigma: float = 0.01
    between_sigma: float = 0.0
    correlation: float = 0.0
    second_share: float = 0.0
    second_ratio: float = 1.0
    drift_per_second: float = 0.0
    step_after: int = -1
    step_ratio: float = 1.0
    slow_start: int = 0
    slow_start_ratio: float = 1.0
    seed: int = 0
    fault: str = ""
    fault_phase: str = "infer"
    fault_after: int = 0
    fault_round: int = -1
    runs_precision: str = ""

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Simulation:
        """Raises ValueError for a newer schema, unknown names, and values out of range."""
        value = json.loads(text)
        schema = value.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"simulation has schema {schema}, this version reads {SCHEMA}")
        unknown = sorted(set(value) - {field.name for field in fields(Simulation)})
        if unknown:
            raise ValueError(f"simulation has no setting '{unknown[0]}'")
        return _checked(Simulation(**value))


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a simulation: what a Job's `artifact`, `artifact_sha256` and `tensors` are."""

    path: Path
    sha256: str
    tensors: Path


def write(folder: Path, simulation: Simulation, *, name: str = "simulation", inputs: int = 4) -> Written:
    """Writes a simulation and its input and reference tensors; a simulated network doubles its input."""
    folder.mkdir(parents=True, exist_ok=True)
    path, tensors = folder / f"{name}.json", folder / f"{name}.npz"
    content = _checked(simulation).to_json().encode()
    path.write_bytes(content)
    random = np.random.default_rng(simulation.seed)
    values = random.standard_normal((inputs, 1, 3, 4, 4)).astype(np.float32)
    arrays = {f"input_{i}": value for i, value in enumerate(values)}
    references = {f"reference_{i}": 2 * value for i, value in enumerate(values)}
    np.savez(tensors, **arrays, **references)
    return Written(path, hashlib.sha256(content).hexdigest(), tensors)


class SimulatedRunner:
    """Advances its own clock by a drawn latency at each inference, so hours take milliseconds."""

    def __init__(self) -> None:
        self.clock = self._read_clock
        self.asynchronous = False
        self._now_ns = 0
        self._count = 0

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        runtime_options(job)
        self._simulation = _read(job.artifact)
        require_precision(job, self._simulation.runs_precision or job.precision, "the simulated runtime")
        self._latencies = Latencies(self._simulation, job.round_index)
        struck = self._simulation.fault_round in (-1, job.round_index)
        self._fault = FAULTS.get(self._simulation.fault) if struck else None
        self._alter = ALTERATIONS.get(self._simulation.fault) if struck else None
        self._inputs = list(inputs)
        if self._simulation.fault_phase == "load" and self._fault:
            self._fault(self)

    def infer(self, index: int) -> object:
        if self._fault and self._count >= self._simulation.fault_after:
            self._fault(self)
        self._now_ns += self._latencies.next_ns(self._count, self._now_ns)
        self._count += 1
        return None

    def synchronize(self) -> None:
        """Nothing runs beside the virtual clock."""

    def outputs(self, index: int) -> list[Array]:
        self.infer(index)
        altered = self._alter and self._count > self._simulation.fault_after
        return [self._alter(self._inputs, index) if self._alter and altered else 2 * self._inputs[index]]

    def describe(self) -> Description:
        return Description("simulated 1", "a drawn latency; no network runs", clock="virtual")

    def close(self) -> None:
        """Nothing was opened."""

    def step_clock(self, by_ns: int) -> None:
        self._now_ns += by_ns

    def step_clock_once(self, by_ns: int) -> None:
        self.step_clock(by_ns)
        self._fault = None

    def _read_clock(self) -> int:
        return self._now_ns


class Latencies:
    """Draws one process's latencies in order; the same simulation and round give the same ones."""

    def __init__(self, simulation: Simulation, round_index: int) -> None:
        self._simulation = simulation
        self._random = np.random.default_rng([simulation.seed, round_index])
        self._process = math.exp(simulation.between_sigma * self._random.standard_normal())
        self._state = float(self._random.standard_normal())
        self._noise: list[float] = []
        self._modes: list[bool] = []

    def next_ns(self, count: int, now_ns: int) -> int:
        s = self._simulation
        factor = self._process * math.exp(s.sigma * self._draw())
        factor *= s.second_ratio if self._modes.pop() else 1.0
        factor *= 1 + s.drift_per_second * now_ns / 1e9
        if 0 <= s.step_after <= count:
            factor *= s.step_ratio
        if count < s.slow_start:
            factor *= 1 + (s.slow_start_ratio - 1) * (1 - count / s.slow_start)
        return max(1, round(s.median_ns * factor))

    def _draw(self) -> float:
        if not self._noise:
            self._noise = self._random.standard_normal(DRAWS).tolist()
            self._modes = (self._random.random(DRAWS) < self._simulation.second_share).tolist()
        rho = self._simulation.correlation
        self._state = rho * self._state + math.sqrt(1 - rho * rho) * self._noise.pop()
        return self._state


def _read(path: Path) -> Simulation:
    try:
        return Simulation.from_json(path.read_text())
    except (ValueError, TypeError) as error:
        raise RunnerError(
            "load", f"{path} is no simulation: {error}", "Write it with simulated.write."
        ) from None


def _checked(simulation: Simulation) -> Simulation:
    known = ["", *FAULTS, *ALTERATIONS]
    if simulation.fault not in known:
        raise ValueError(f"unknown fault '{simulation.fault}'; known: {', '.join(known[1:])}")
    if simulation.fault_phase not in ("load", "infer"):
        raise ValueError(f"fault_phase is '{simulation.fault_phase}', not 'load' or 'infer'")
    if not (simulation.median_ns >= 1 and simulation.sigma >= 0 and simulation.between_sigma >= 0):
        raise ValueError("median_ns is at least 1, sigma and between_sigma are not negative")
    if not (-1 < simulation.correlation < 1 and 0 <= simulation.second_share <= 1):
        raise ValueError("correlation lies between -1 and 1, second_share between 0 and 1")
    return simulation


def _hang(_: SimulatedRunner) -> None:
    """Never returns and never lets another Python thread run: PyDLL keeps the interpreter lock."""
    while True:
        ctypes.PyDLL(None).pause()


def _sleep(_: SimulatedRunner) -> None:
    while True:
        time.sleep(3600)


def _raise(_: SimulatedRunner) -> None:
    raise RuntimeError("simulated error")


def _print(_: SimulatedRunner) -> None:
    os.write(1, b"simulated output\n" * 64)
    sys.stderr.write("simulated message\n")


def _flood(_: SimulatedRunner) -> None:
    while True:
        os.write(1, bytes(1 << 16))


def _allocate(_: SimulatedRunner) -> None:
    np.empty(1 << 60, dtype=np.uint8)


def _eat_memory(_: SimulatedRunner) -> None:
    """Touches memory until the kernel ends the process; only for a process with a memory limit."""
    eaten: list[Any] = []
    while True:
        eaten.append(np.ones(1 << 23))


FAULTS: dict[str, Callable[[SimulatedRunner], object]] = {
    "segfault": lambda _: ctypes.string_at(0),
    "abort": lambda _: os.abort(),
    "hang": _hang,
    "sleep": _sleep,
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "exit": lambda _: os._exit(7),
    "raise": _raise,
    "print": _print,
    "flood": _flood,
    "allocate": _allocate,
    "eat_memory": _eat_memory,
    "clock_back": lambda runner: runner.step_clock(-1_000_000_000),
    "clock_forward": lambda runner: runner.step_clock_once(500_000_000),
}

ALTERATIONS: dict[str, Callable[[list[Array], int], Array]] = {
    "wrong_output": lambda inputs, index: 2 * inputs[index] + 1,
    "cached_output": lambda inputs, index: 2 * inputs[0],
    "nan_output": lambda inputs, index: np.full_like(inputs[index], np.nan),
    "wrong_shape": lambda inputs, index: 2 * inputs[index][..., :1],
}
