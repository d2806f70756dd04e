"""A TensorRT engine timed with nothing around it: what our own number for the same file is checked against.

Run as a script, not imported: it knows nothing of this project. Arguments as runners/bare_loop.py, and
`package` and `device`; what it reads and prints too. It does what trtexec does without transfers: inferences
enqueued one ahead of the device, each between two events of its own. No card has run it.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cuda.bindings import runtime as rt

TYPES = {"FLOAT": np.float32, "HALF": np.float16}


def main() -> None:
    asked = json.loads(sys.argv[1])
    call("cudaSetDevice", asked["device"])
    call("cudaSetDeviceFlags", rt.cudaDeviceScheduleSpin)
    trt = importlib.import_module(asked["package"])
    logger = trt.Logger(trt.Logger.WARNING)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(Path(asked["artifact"]).read_bytes())
    context = engine.create_execution_context()
    stream = call("cudaStreamCreateWithFlags", rt.cudaStreamNonBlocking)
    name, inputs = _bind(trt, engine, context, asked["tensors"])
    run = _Run(context, stream, name, inputs)
    run.timed(asked["warmup_seconds"])
    print("ready", flush=True)
    for line in sys.stdin:
        run.timed(float(line) / 5)
        print(statistics.median(run.timed(float(line))), flush=True)


class _Run:
    def __init__(self, context: Any, stream: Any, name: str, inputs: list[int]) -> None:
        self.context, self.stream, self.name, self.inputs = context, stream, name, inputs
        self.events = [
            [call("cudaEventCreateWithFlags", rt.cudaEventDefault) for _ in range(2)] for _ in range(2)
        ]

    def timed(self, seconds: float) -> list[float]:
        """Two pairs of events in turn: the one that was recorded last is read after the next is enqueued."""
        samples, number = [], 0
        end = time.perf_counter() + seconds
        self._enqueue(number)
        while time.perf_counter() < end:
            self._enqueue(number + 1)
            start, stop = self.events[number % 2]
            call("cudaEventSynchronize", stop)
            samples.append(float(call("cudaEventElapsedTime", start, stop)) * 1e6)
            number += 1
        call("cudaStreamSynchronize", self.stream)
        return samples

    def _enqueue(self, number: int) -> None:
        start, stop = self.events[number % 2]
        self.context.set_tensor_address(self.name, self.inputs[number % len(self.inputs)])
        call("cudaEventRecord", start, self.stream)
        if not self.context.execute_async_v3(int(self.stream)):
            raise SystemExit("the engine refuses an inference")
        call("cudaEventRecord", stop, self.stream)


def _bind(trt: Any, engine: Any, context: Any, tensors: str) -> tuple[str, list[int]]:
    """The input's name and an address for each input of the file; outputs get memory of their own."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    given = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    name = given[0]
    with np.load(tensors) as file:
        values = [file[key] for key in file.files if key.startswith("input_")]
    context.set_input_shape(name, values[0].shape)
    kind = TYPES[engine.get_tensor_dtype(name).name]
    inputs = []
    for value in values:
        host = np.ascontiguousarray(value, dtype=kind)
        inputs.append(int(call("cudaMalloc", host.nbytes)))
        to_device = rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpy", inputs[-1], host.ctypes.data, host.nbytes, to_device)
    for output in (other for other in names if other not in given):
        count = int(np.prod(context.get_tensor_shape(output)))
        address = call("cudaMalloc", count * engine.get_tensor_dtype(output).itemsize)
        context.set_tensor_address(output, int(address))
    return name, inputs


def call(name: str, *arguments: Any) -> Any:
    status, *values = getattr(rt, name)(*arguments)
    if status != rt.cudaError_t.cudaSuccess:
        raise SystemExit(f"{name} failed: {rt.cudaGetErrorName(status)[1].decode()}")
    return values[0] if values else None


if __name__ == "__main__":
    main()
