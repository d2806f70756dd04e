"""The real code path on simulated devices: runner, warm-up, timing loop, schedule, stopping rule, statistics.

Only the operating system's process is left out: a round is the same runner and loop in this process, on the
runner's own clock, so thousands of suites take minutes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from commands.config import load
from reports.statistics import converged
from runners import simulated, suite, timing
from runners.measurement import Failure, Job, Measurement, Phases, Protocol, Round, Timing
from tests.validation.worlds import World

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 4
MEMORY = Path("/dev/shm")  # small files by the hundred thousand: a disk would set the pace
PROTOCOL = Protocol(
    *("simulated", "simulated 1", "cpu", 1, "virtual", "none", "a drawn latency", "none", "until steady"),
    min_sample_ns=1_000_000,
)

Told = TypeVar("Told")
Counted = TypeVar("Counted")


def default_timing() -> Timing:
    """The `[timing]` of bench.toml: what a suite gets that asks for nothing else."""
    config = load(ROOT / "bench.toml")
    return config.timing.applied_to(Timing())


def measure(worlds: Mapping[str, World], policy: Timing) -> dict[str, Measurement]:
    """A suite of simulated cases, interleaved, each until the stopping rule ends it."""
    rounds: dict[str, list[Round]] = {name: [] for name in worlds}

    def commit(case_id: str, outcome: Round | Failure) -> None:
        assert isinstance(outcome, Round), outcome
        rounds[case_id].append(outcome)

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        files = {name: _File(Path(folder) / f"{place}.json") for place, name in enumerate(worlds)}
        turns = itertools.count()

        def run(job: Job, following: Job | None) -> Round:
            turn = next(turns)
            files[job.case_id].write(worlds[job.case_id].at(turn))
            return _round(job, turn)

        suite.measure(
            {name: _job(name, files[name].path, policy) for name in worlds},
            policy,
            converged=lambda found: converged(found, policy.target),
            commit=commit,
            clock=lambda: 0,
            run=run,
        )
    return {name: Measurement(PROTOCOL, tuple(found)) for name, found in rounds.items()}


@dataclass
class _File:
    """Where the runner reads a simulation; written when it differs from the last one, as writing is slow."""

    path: Path
    written: simulated.Simulation | None = None

    def write(self, simulation: simulated.Simulation) -> None:
        if simulation != self.written:
            self.path.write_text(simulation.to_json())
            self.written = simulation


def _job(name: str, path: Path, policy: Timing) -> Job:
    return Job(name, "simulated", "cpu", 1, "", "fp32", path, "", path, 1e-3, policy, 0, 0)


def _round(job: Job, turn: int) -> Round:
    runner = simulated.SimulatedRunner()
    runner.load(job, [])
    warm = timing.warm_up(runner.infer, INPUTS, job.timing, clock=runner.clock)
    samples = timing.take(runner.infer, warm, job.timing, clock=runner.clock)
    return Round(
        round_index=job.round_index,
        position=job.position,
        attempt=0,
        protocol=PROTOCOL,
        loop_count=warm.loop_count,
        samples_ns=samples,
        warmup_ns=warm.samples_ns,
        steady=warm.steady,
        output_error=0.0,
        phases=Phases(),
        started_at_ns=turn * 1_000_000_000,
    )


def alone(world: World, policy: Timing) -> Measurement:
    """One case by itself."""
    return measure({world.name: world}, policy)[world.name]


def over_all(
    work: Callable[[Told], Counted], told: Sequence[Told], *, processes: int | None = None
) -> list[Counted]:
    """`work` on every entry, in order, on all cores; `processes` = 0 works here."""
    if processes == 0:
        return [work(entry) for entry in told]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return list(pool.map(work, told, chunksize=max(1, len(told) // 64)))


def with_rounds(policy: Timing, *, least: int, most: int) -> Timing:
    return replace(policy, min_rounds=least, max_rounds=most)
