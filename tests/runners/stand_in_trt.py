"""An engine API that is not TensorRT: the part of it that the runner calls, over the stand-in GPU.

An engine file is JSON, and its engine doubles its input. Faults are named in it. Used by tests alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

StandInCuda = Stream = Any  # of stand_in_cuda.py: test folders are no packages

TYPES = {"FLOAT": np.float32, "HALF": np.float16, "BF16": np.uint16}


class Severity(int):
    """Numbered as in TensorRT: smaller is worse."""


class ILogger:
    Severity = SimpleNamespace(INTERNAL_ERROR=Severity(0), ERROR=Severity(1), WARNING=Severity(2))

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class IProfiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class StandInTrt:
    """The package as a module. `refuses` makes deserializing fail, as for another version's engine."""

    ILogger = ILogger
    IProfiler = IProfiler
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager", NONE="none")

    def __init__(self, cuda: StandInCuda, *, version: str = "1.0", refuses: str = "") -> None:
        self.__version__ = version
        self.cuda, self.refuses = cuda, refuses
        self.contexts: list[Context] = []
        self.configs: list[SimpleNamespace] = []

    def Runtime(self, logger: ILogger) -> Any:
        def deserialize(data: bytes) -> Engine | None:
            if self.refuses:
                logger.log(ILogger.Severity.ERROR, self.refuses)
                return None
            return Engine(self, json.loads(data))

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class Engine:
    def __init__(self, trt: StandInTrt, description: dict[str, Any]) -> None:
        self.trt, self.told = trt, description
        self.num_io_tensors = 2 + description.get("more_inputs", 0)
        self.num_optimization_profiles = len(description.get("profiles", [None]))

    def get_tensor_name(self, index: int) -> str:
        return ["x", "y"][index] if index < 2 else f"x{index}"

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "y" else "input"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.told.get("types", {}).get(name, "FLOAT"))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.told["shape"])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.told["profiles"][index]]

    def create_engine_inspector(self) -> Any:
        text = json.dumps({"Layers": self.told.get("layers", ["a layer of which only the name is told"])})
        return SimpleNamespace(get_engine_information=lambda format: text)

    def create_runtime_config(self) -> SimpleNamespace:
        self.trt.configs.append(SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy"))
        return self.trt.configs[-1]

    def create_execution_context(self, config: Any = None) -> Context | None:
        if self.told.get("fault") == "no_context":
            return None
        self.trt.contexts.append(Context(self))
        return self.trt.contexts[-1]


class Context:
    """`duration_ns` on the device, `enqueue_ns` on the host for each inference."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.told, self.cuda = engine, engine.told, engine.trt.cuda
        self.profiler: Any = None
        self.profile = 0
        self._shape = tuple(self.told["shape"])
        self._addresses: dict[str, int] = {}
        self._first_input: int | None = None
        self.number = len(engine.trt.contexts)
        self.inputs_used: list[int] = []

    def is_stream_capturable(self, stream: int) -> bool:
        return self.told.get("fault") != "not_capturable"

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return ["x"] if -1 in self._shape else []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.told["y_shape"]) if name == "y" and "y_shape" in self.told else self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.told.get("fault") == "refuses" or set(self._addresses) != {"x", "y"}:
            return False
        self.inputs_used.append(self._addresses["x"])
        self.cuda.now_ns += self.told.get("enqueue_ns", 10_000)
        work = self.cuda.Operation(self.told.get("duration_ns", 200_000), self._effect())
        self.cuda.submit(self.cuda.streams[stream], work)
        if self.profiler is not None:
            self._report(self.cuda.streams[stream])
        return True

    def _effect(self) -> Callable[[], None]:
        """Addresses are those of the call: a graph keeps the ones that it was captured with."""
        fault, source, target = self.told.get("fault"), self._addresses["x"], self._addresses["y"]
        if fault == "cached_output":
            self._first_input = source = self._first_input or source
        types = self.told.get("types", {})
        of = {name: TYPES[types.get(name, "FLOAT")] for name in ("x", "y")}
        count = int(np.prod(self._shape))
        stopped = fault == "stops" and len(self.inputs_used) > 10
        wrong = fault == "wrong_output" or (fault == "second_stream" and self.number == 1)

        def effect() -> None:
            if stopped:
                return
            values = self.cuda.buffers[source].view(of["x"])[:count].astype(np.float64)
            doubled = (2 * values + wrong).astype(of["y"])
            self.cuda.buffers[target][: doubled.nbytes] = doubled.view(np.uint8)

        return effect

    def _report(self, stream: Stream) -> None:
        for name, ms in self.told.get("profile", {"conv + relu": 0.15, "gemm": 0.05}).items():
            self.profiler.report_layer_time(name, ms)
