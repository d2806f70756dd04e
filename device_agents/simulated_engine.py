"""A described network on a clock of its own: exact, instant, and the same in Swift (SimulatedEngine.swift).

It runs no network: its output is its input. What it tells is marked `simulated` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agents.bodies import Conditions, Operation, Received
from device_agents.engine import EngineError
from device_agents.job import DeviceJob, Tensor

NEURAL_ENGINE = ("cpuAndNeuralEngine", "all")
DEFAULT_OPERATIONS = (
    Operation("x_1", "ios16.conv", "neural_engine", ("neural_engine", "gpu", "cpu"), 600_000_000),
    Operation("x_2", "ios16.softmax", "neural_engine", ("neural_engine", "gpu", "cpu"), 250_000_000),
    Operation("x_3", "ios16.gather", "cpu", ("cpu",), 150_000_000),
    Operation("x_2_axis", "const", "unknown", (), -1),
)


READING = Conditions("nominal", 800, True, False, 120_000_000, 2_000_000_000)


@dataclass
class SimulatedEngine:
    """`latency_ns` of a prediction once warm: prediction i lasts that and (7919 i mod 1000) ns more, the
    first 20 a tenth longer. `slower_permille` is what throttling adds. `on_predict` is told before each
    prediction (a fault may happen there).
    """

    latency_ns: int = 2_000_000
    compile_ns: int = 800_000_000
    cold_load_ns: int = 300_000_000
    warm_load_ns: int = 40_000_000
    start_ns: int = 1_000_000_000
    started_at_ns: int = 1_700_000_000_000_000_000
    slower_permille: int = 0
    falls_back: bool = False
    refuses: dict[str, tuple[str, str]] = field(default_factory=dict)  # stage -> (problem, message)
    reading: Conditions = READING
    on_predict: Callable[[], None] = lambda: None
    now_ns: int = 0
    predictions: int = 0
    loads: int = 0
    inputs: Sequence[Sequence[bytes]] = ()
    job: DeviceJob | None = None

    def clock_ns(self) -> int:
        return self.start_ns + self.now_ns

    def utc_ns(self) -> int:
        return self.started_at_ns + self.now_ns

    def facts(self) -> Received:
        return Received("simulated 1", "simulated phone", "simulated 1.0", "0", "simulated engine")

    def conditions(self) -> Conditions:
        return replace(self.reading, thermal_state="serious") if self.slower_permille else self.reading

    def prepare(self, job: DeviceJob, model: Path, compiled: Path) -> None:
        self.compiled = compiled

    def compile(self) -> None:
        self._refuse("compile")
        self.now_ns += self.compile_ns
        self.compiled.mkdir(exist_ok=True)

    def is_compiled(self, compiled: Path) -> bool:
        return compiled.is_dir()

    def load(self, job: DeviceJob, compiled: Path) -> None:
        self._refuse("load")
        self.now_ns += self.warm_load_ns if self.loads else self.cold_load_ns
        self.loads += 1
        self.predictions = 0
        self.job = job

    def unload(self) -> None:
        self.inputs = ()

    def set_inputs(self, sets: Sequence[Sequence[bytes]]) -> None:
        self.inputs = sets

    def predict(self, index: int) -> object:
        self.on_predict()
        self._refuse("predict")
        extra_ns = self.latency_ns // 10 if self.predictions < 20 else 0
        lasts_ns = self.latency_ns + extra_ns + 7919 * self.predictions % 1000
        self.now_ns += lasts_ns + lasts_ns * self.slower_permille // 1000
        self.predictions += 1
        return self.inputs[index]

    def outputs(self, index: int) -> list[bytes]:
        self.predict(index)
        return list(self.inputs[index])

    def output_tensors(self) -> tuple[Tensor, ...]:
        assert self.job is not None
        return tuple(replace(tensor, name=f"{tensor.name}_out") for tensor in self.job.inputs.tensors)

    def placement(self) -> tuple[Operation, ...]:
        self._refuse("placement")
        assert self.job is not None
        if self.job.compute_unit in NEURAL_ENGINE and not self.falls_back:
            return DEFAULT_OPERATIONS
        place = "gpu" if self.job.compute_unit in ("cpuAndGPU", "all") else "cpu"
        return tuple(
            replace(op, preferred=place) if op.preferred == "neural_engine" else op
            for op in DEFAULT_OPERATIONS
        )

    def _refuse(self, stage: str) -> None:
        if stage in self.refuses:
            raise EngineError(*self.refuses[stage])
