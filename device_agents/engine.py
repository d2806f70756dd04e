"""What the agent's loop asks of whatever runs a network: Core ML, ONNX Runtime, or a described phone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from device_agents.bodies import Conditions, Operation, Received
from device_agents.job import DeviceJob, Tensor


class EngineError(Exception):
    """What the runtime refused; `problem` is a name of problems.PROBLEMS, the message its own words."""

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class Engine(Protocol):
    """Steps in the order in which they are called; each raises EngineError. It keeps no time itself."""

    def clock_ns(self) -> int:
        """A clock that only goes forward."""

    def utc_ns(self) -> int:
        """Since 1970."""

    def facts(self) -> Received:
        """Device, system and runtime."""

    def conditions(self) -> Conditions:
        """What the device says of its temperature, power and memory."""

    def prepare(self, job: DeviceJob, model: Path, compiled: Path) -> None:
        """Untimed: whatever must lie on the disk before `model` can be compiled to the folder `compiled`."""

    def compile(self) -> None:
        """Package to what is loaded; its result stays on the disk for later launches."""

    def is_compiled(self, compiled: Path) -> bool:
        """Does an earlier launch's result lie there?"""

    def load(self, job: DeviceJob, compiled: Path) -> None:
        """Ready to predict, with every input and output buffer made."""

    def unload(self) -> None:
        """Forget the loaded model."""

    def set_inputs(self, sets: Sequence[Sequence[bytes]]) -> None:
        """The inputs that predictions rotate over: per set, a tensor's bytes each."""

    def predict(self, index: int) -> object:
        """One prediction on set `index`: exactly what is timed."""

    def outputs(self, index: int) -> list[bytes]:
        """The outputs of one prediction on set `index`."""

    def output_tensors(self) -> tuple[Tensor, ...]:
        """What `outputs` gives."""

    def placement(self) -> tuple[Operation, ...]:
        """Where the compute plan puts every operation; empty where the system tells none."""
