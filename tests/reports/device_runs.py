"""Runs of devices from real journals: the simulated phone's, over its transport, and Xcode's reports.

The phone's clock and latencies are described, so every run is exact and instant; models, compute units,
latencies and faults are the caller's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agents.bodies import Operation
from device_agents.host import Host, Outbox, Taken
from device_agents.job import COMPUTE_UNITS, DeviceTiming
from device_agents.rounds import Compared, rounds_of
from device_agents.simulated_engine import NEURAL_ENGINE, SimulatedEngine
from device_agents.simulated_phone import Fault, SimulatedPhone
from models.spec import Case, ModelSpec, digest
from reports.records import CaseResult, RunInfo, StoredRun
from runners.measurement import Failure
from tests.device_agents.small_job import make_job

START_NS = 1_763_689_800_000_000_000
TIMING = DeviceTiming(
    rounds=5, warmup_ns=20_000_000, max_warmup_ns=200_000_000, round_ns=150_000_000, min_samples=5
)
LATENCY_NS = {"cpuOnly": 9_000_000, "cpuAndGPU": 4_000_000, "cpuAndNeuralEngine": 2_000_000, "all": 2_000_000}
BLOCKS = ("stem.0.conv", "stages.0.0.mlp.conv1", "stages.0.0.norm", "stages.1.3.e_mhsa.q", "head")
MODULES = {f"x_{place}": module for place, module in enumerate(BLOCKS)}
OPERATORS = ("ios16.conv", "ios16.conv", "ios16.batch_norm", "ios16.einsum", "ios16.linear")
COSTS_PPB = (100_000_000, 400_000_000, 50_000_000, 300_000_000, 150_000_000)


@dataclass
class DescribedEngine(SimulatedEngine):
    """The simulated engine, its operations in modules; `elsewhere` are those that no Neural Engine takes."""

    elsewhere: tuple[int, ...] = (4,)

    def placement(self) -> tuple[Operation, ...]:
        assert self.job is not None
        unit = self.job.compute_unit
        best = "neural_engine" if unit in NEURAL_ENGINE and not self.falls_back else "gpu"
        rest = "gpu" if unit in ("all", "cpuAndGPU") else "cpu"
        best = rest if unit == "cpuOnly" or (self.falls_back and rest == "cpu") else best
        placed = [
            Operation(f"x_{i}", operator, rest if i in self.elsewhere else best, (best, "cpu"), cost)
            for i, (operator, cost) in enumerate(zip(OPERATORS, COSTS_PPB, strict=True))
        ]
        return (*placed, Operation("x_axis", "const", "unknown", (), -1))


@dataclass(frozen=True)
class Described:
    """One job: a model on a compute unit, how long a prediction takes there, and what goes wrong."""

    model: str = "nextvit_small"
    unit: str = "all"
    latency_ns: int = 2_000_000
    faults: tuple[Fault, ...] = ()
    falls_back: bool = False
    low_power: bool = False
    timing: DeviceTiming = TIMING
    options: Mapping[str, object] = field(default_factory=dict)


def every_unit(model: str, *, slower: float = 1.0, **changes: object) -> list[Described]:
    """A model on Core ML's four compute units."""
    made = [Described(model, unit, int(LATENCY_NS[unit] * slower)) for unit in COMPUTE_UNITS]
    return [replace(one, **changes) for one in made]


def taken(folder: Path, job: Described) -> Taken:
    """The journal of a phone that ran the job, fetched and checked by the host as a phone's is."""
    made, files = make_job(folder / "files", compute_unit=job.unit, timing=job.timing, **job.options)
    engine = DescribedEngine(latency_ns=job.latency_ns, falls_back=job.falls_back)
    engine.reading = replace(engine.reading, low_power_mode=job.low_power)
    phone = SimulatedPhone(folder / "phone", job.faults, engine)
    clock = itertools.count()
    host = Host(
        phone,
        phone.devices()[0],
        observe=lambda entry: None,
        sleep=lambda seconds: None,
        clock_s=lambda: float(next(clock)),
    )
    return host.run(Outbox(folder / "outbox", made), files)


def result(folder: Path, job: Described, *, driver: str = "simulated") -> CaseResult:
    case = Case(ModelSpec.of(job.model), "coreml", precision="fp16", device=driver, compute_unit=job.unit)
    rounds = rounds_of(taken(folder, job), driver=driver, outputs=Compared(0.0), modules=MODULES)
    return CaseResult(case, None, rounds, None, len(rounds), rounds[-1].protocol.id)


def failed(model: str, unit: str, message: str, *, driver: str = "simulated") -> CaseResult:
    case = Case(ModelSpec.of(model), "coreml", precision="fp16", device=driver, compute_unit=unit)
    return CaseResult(case, None, (), Failure("load", message, "Try cpuOnly."), 1)


def run_of(results: Sequence[CaseResult], **changes: object) -> StoredRun:
    info = RunInfo(
        run_id=7,
        suite="device",
        plan_digest=digest([r.case.id for r in results]),
        seed=0,
        started_at_ns=START_NS,
        finished_at_ns=START_NS + 60_000_000_000,
        command="python bench.py agent run model.mlpackage --driver simulated",
        config={"focus": ""},
        environment={"system": {"os": "Linux"}},
        case_ids=tuple(r.case.id for r in results),
    )
    return StoredRun(replace(info, **changes), tuple(results))


def run(folder: Path, jobs: Sequence[Described], *, driver: str = "simulated") -> StoredRun:
    return run_of([result(folder / str(i), job, driver=driver) for i, job in enumerate(jobs)])


Build = Callable[[Sequence[Described]], StoredRun]
