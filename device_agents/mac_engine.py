"""Core ML on the Mac itself, through coremltools, as the agent's engine. Never run: there was no Mac.

Predictions go through Python and NumPy, so a few tens of microseconds per prediction are the caller's own.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from device_agents.archive import package_files, unpack
from device_agents.bodies import NOT_KNOWN, Conditions, Operation, Received
from device_agents.engine import EngineError
from device_agents.forms import FormError
from device_agents.job import DeviceJob, Tensor

AGENT = "deploybench mac 1"
COMPUTE_UNITS = {
    "cpuOnly": "CPU_ONLY",
    "cpuAndGPU": "CPU_AND_GPU",
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "all": "ALL",
}
_PLACES = {
    "MLCPUComputeDevice": "cpu",
    "MLGPUComputeDevice": "gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}


def missing() -> str:
    """Why it cannot run here, and the fix; empty where it can."""
    if platform.system() != "Darwin":
        return "Core ML runs on macOS alone; run the agent on a Mac"
    from importlib.util import find_spec

    return "" if find_spec("coremltools") else "coremltools is not installed; pip install 'coremltools>=9.0'"


class MacEngine:
    """Core ML by `coremltools.models.CompiledMLModel`, on any of the four compute units."""

    def __init__(self) -> None:
        if why := missing():
            raise EngineError("load_failed", why)
        self._package = self._compiled = Path()
        self._model: Any = None
        self._feeds: list[dict[str, Any]] = []
        self._job: DeviceJob | None = None
        self._found: dict[str, Any] = {}

    def clock_ns(self) -> int:
        return time.perf_counter_ns()

    def utc_ns(self) -> int:
        return time.time_ns()

    def facts(self) -> Received:
        from importlib.metadata import version

        runtime = f"Core ML through coremltools {version('coremltools')}"
        system = f"macOS {platform.mac_ver()[0]}"
        return Received(AGENT, platform.machine(), system, platform.release()[:128], runtime)

    def conditions(self) -> Conditions:
        return Conditions("unknown", NOT_KNOWN, False, False, NOT_KNOWN, NOT_KNOWN)

    def prepare(self, job: DeviceJob, model: Path, compiled: Path) -> None:
        if job.model.format != "mlpackage-zip":
            raise EngineError("compile_failed", f"Core ML reads an mlpackage, not {job.model.format}")
        self._package, self._compiled = compiled.with_suffix(".package.mlpackage"), compiled
        for folder in (self._package, compiled):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            unpack(package_files(model), self._package)
        except FormError as error:
            raise EngineError("bad_model", str(error)) from error

    def compile(self) -> None:
        import coremltools

        try:
            coremltools.models.utils.compile_model(str(self._package), str(self._modelc(self._compiled)))
        except RuntimeError as error:
            name = "specification_too_new" if "specification" in str(error).lower() else "compile_failed"
            raise EngineError(name, str(error)) from error

    def is_compiled(self, compiled: Path) -> bool:
        return self._modelc(compiled).is_dir()

    def load(self, job: DeviceJob, compiled: Path) -> None:
        import coremltools

        self._job, self._compiled = job, compiled
        try:
            self._model = coremltools.models.CompiledMLModel(
                str(self._modelc(compiled)), compute_units=self._unit()
            )
        except RuntimeError as error:
            raise EngineError("load_failed", str(error)) from error

    def unload(self) -> None:
        self._model, self._feeds = None, []

    def set_inputs(self, sets: Sequence[Sequence[bytes]]) -> None:
        assert self._job is not None
        self._feeds = [
            {
                tensor.name: np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
                for tensor, data in zip(self._job.inputs.tensors, parts, strict=True)
            }
            for parts in sets
        ]

    def predict(self, index: int) -> object:
        return self._model.predict(self._feeds[index])

    def outputs(self, index: int) -> list[bytes]:
        try:
            self._found = dict(sorted(self._model.predict(self._feeds[index]).items()))
        except RuntimeError as error:
            raise EngineError("predict_failed", str(error)) from error
        return [np.ascontiguousarray(value).tobytes() for value in self._found.values()]

    def output_tensors(self) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(name, value.dtype.name, tuple(value.shape)) for name, value in self._found.items()
        )

    def placement(self) -> tuple[Operation, ...]:
        from coremltools.models.compute_plan import MLComputePlan

        plan = MLComputePlan.load_from_path(str(self._modelc(self._compiled)), compute_units=self._unit())
        program = plan.model_structure.program
        if program is None:
            return ()
        return tuple(
            _placed(plan, operation)
            for function in program.functions.values()
            for operation in function.block.operations
        )

    def _unit(self) -> Any:
        import coremltools

        assert self._job is not None
        return getattr(coremltools.ComputeUnit, COMPUTE_UNITS[self._job.compute_unit])

    @staticmethod
    def _modelc(compiled: Path) -> Path:
        return compiled / "model.mlmodelc"


def _placed(plan: Any, operation: Any) -> Operation:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    place = _place(usage.preferred_compute_device) if usage else "unknown"
    supported = [_place(device) for device in usage.supported_compute_devices] if usage else []
    return Operation(
        name=operation.outputs[0].name if operation.outputs else "",
        operator=operation.operator_name,
        preferred=place,
        supported=tuple(dict.fromkeys(supported)),
        cost_ppb=round(cost.weight * 1e9) if cost else NOT_KNOWN,
    )


def _place(device: object) -> str:
    return _PLACES.get(type(device).__name__, "unknown")
