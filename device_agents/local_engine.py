"""ONNX Runtime on the machine itself as the agent's engine: any Linux board, and the whole path for real."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from device_agents.bodies import NOT_KNOWN, Conditions, Operation, Received
from device_agents.engine import EngineError
from device_agents.job import DeviceJob, Tensor

AGENT = "deploybench local 1"


class LocalEngine:
    """One thread per session, as a board's agent is asked for a latency; compute unit `cpuOnly` alone."""

    def __init__(self) -> None:
        self._model = Path()
        self._session: Any = None
        self._names: list[str] = []
        self._feeds: list[dict[str, Any]] = []
        self._job: DeviceJob | None = None

    def clock_ns(self) -> int:
        return time.perf_counter_ns()

    def utc_ns(self) -> int:
        return time.time_ns()

    def facts(self) -> Received:
        import onnxruntime

        runtime = f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider, 1 thread"
        return Received(AGENT, platform.machine(), platform.system(), platform.release()[:128], runtime)

    def conditions(self) -> Conditions:
        """A Linux board tells none of a phone's readings; free memory is what the kernel says."""
        pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return Conditions("unknown", NOT_KNOWN, False, False, NOT_KNOWN, pages * size)

    def prepare(self, job: DeviceJob, model: Path, compiled: Path) -> None:
        if job.model.format != "onnx":
            raise EngineError("compile_failed", f"this agent runs ONNX files, not {job.model.format}")
        self._model, self._compiled = model, compiled

    def compile(self) -> None:
        """ONNX Runtime compiles when it loads: the file is put where `load` takes it from."""
        self._compiled.mkdir(exist_ok=True)
        (self._compiled / "model.onnx").write_bytes(self._model.read_bytes())

    def is_compiled(self, compiled: Path) -> bool:
        return (compiled / "model.onnx").is_file()

    def load(self, job: DeviceJob, compiled: Path) -> None:
        import onnxruntime

        if job.compute_unit != "cpuOnly":
            raise EngineError(
                "load_failed", f"this agent has the compute unit cpuOnly, not {job.compute_unit}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                compiled / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise EngineError("load_failed", str(error)) from error
        self._names, self._job = [output.name for output in self._session.get_outputs()], job

    def unload(self) -> None:
        self._session, self._feeds = None, []

    def set_inputs(self, sets: Sequence[Sequence[bytes]]) -> None:
        assert self._job is not None
        tensors = self._job.inputs.tensors
        known = {given.name for given in self._session.get_inputs()}
        if known != {tensor.name for tensor in tensors}:
            raise EngineError("predict_failed", f"the model's inputs are {sorted(known)}")
        self._feeds = [
            {
                tensor.name: np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
                for tensor, data in zip(tensors, parts, strict=True)
            }
            for parts in sets
        ]

    def predict(self, index: int) -> object:
        return self._session.run(self._names, self._feeds[index])

    def outputs(self, index: int) -> list[bytes]:
        try:
            found = self._session.run(self._names, self._feeds[index])
        except Exception as error:
            raise EngineError("predict_failed", str(error)) from error
        self._shapes = [(value.dtype.name, value.shape) for value in found]
        return [np.ascontiguousarray(value).tobytes() for value in found]

    def output_tensors(self) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(name, dtype, tuple(shape))
            for name, (dtype, shape) in zip(self._names, self._shapes, strict=True)
        )

    def placement(self) -> tuple[Operation, ...]:
        return ()
