"""TensorRT and TensorRT-RTX: an engine on its own streams, timed by CUDA events.

Options: `cuda_graph` replays a captured graph per input; `transfers` is `none` (inputs lie on the device,
outputs stay there) or `both` (every inference is copied in and out, beside the sample; see
runners/device_timing.py); `streams` above 1 runs so many contexts side by side, and the sample is their
throughput; `sync` is how the host waits, `spin` or `block`; `cuda_binding` names one of
runners.cuda.BINDINGS.

No card has run this code: it was run against a stand-in of the engine API and of CUDA in tests/runners, and
its names were checked against tensorrt_rtx 1.7.1 and cuda-bindings 13.5 without a driver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from runners import cuda as cuda_interface
from runners import parse_device, trt_layers, trt_loading, trt_tensors
from runners.cuda import Cuda
from runners.device_timing import CLOCK_NAME, PASSES, EventSampler, Lane
from runners.measurement import Job
from runners.runner import (
    HOST_CLOCK,
    Array,
    Clock,
    Description,
    DeviceSide,
    RunnerError,
    runtime_options,
)
from runners.verify import relative_error

NO_GRAPH = "Time it without: cuda_graph=false."


@dataclass(frozen=True, slots=True)
class Options:
    """The runtime options, checked."""

    cuda_graph: bool
    transfers: str
    streams: int
    blocking: bool
    binding: str

    @staticmethod
    def of(job: Job) -> Options:
        """Raises RunnerError `load` for what the table in runners/options.py does not allow."""
        asked = runtime_options(job)
        return Options(
            cuda_graph=asked["cuda_graph"],
            transfers=asked["transfers"],
            streams=asked["streams"],
            blocking=asked["sync"] == "block",
            binding=asked["cuda_binding"],
        )


@dataclass(slots=True)
class Worker:
    """One context with its stream and output memory; `infer` is what is timed, `plain` without a graph."""

    context: Any
    stream: Any
    outputs: list[int]
    host_outputs: list[Array]
    plain: Callable[[int], None]
    infer: Callable[[int], None]


class TrtEngineRunner:
    """`infer` enqueues one inference on the first stream; see the module for what is timed."""

    def __init__(
        self,
        *,
        open_device: Callable[..., Cuda] = cuda_interface.open_device,
        import_package: Callable[[str], Any] = importlib.import_module,
        find_packages: Callable[[str], Sequence[str]] = trt_loading.candidates,
        clock: Clock = HOST_CLOCK,
    ) -> None:
        self.clock = clock
        self.asynchronous = True
        self.device_side: DeviceSide | None = None
        self._open_device, self._import, self._find_packages = open_device, import_package, find_packages

    def load(self, job: Job, inputs: Sequence[Array]) -> None:
        self._options = options = Options.of(job)
        kind, index = parse_device(job.device)
        if kind != "cuda":
            raise RunnerError("unavailable", f"TensorRT does not run on '{job.device}'", "Ask for cuda.")
        packages = self._find_packages(str(job.options.get("builder", "")))
        self._tolerance = job.tolerance
        self._cuda = cuda = self._open_device(index, blocking=options.blocking, binding=options.binding)
        self._facts = cuda.facts()
        self._free_before = cuda.memory()[0]
        self._loaded = trt_loading.load_engine(job.artifact, packages, import_package=self._import)
        self._types = trt_layers.require_types(
            job, trt_layers.executed_types(self._loaded.trt, self._loaded.engine)
        )
        self._tensors = trt_tensors.find(self._loaded)
        self._done = cuda.event()
        self._place(trt_tensors.host_inputs(self._tensors, inputs))
        self._workers = [self._worker() for _ in range(options.streams)]
        self._settle()
        self.device_side = DeviceSide(
            EventSampler(cuda, [self._lane(worker) for worker in self._workers], clock=self.clock),
            self._peak_bytes,
            self._layers,
            self._facts.pci_bus_id,
        )

    def infer(self, index: int) -> object:
        self._workers[0].infer(index)
        return None

    def synchronize(self) -> None:
        for worker in self._workers:
            self._finish(worker)

    def outputs(self, index: int) -> list[Array]:
        """From every stream, as it is timed; raises RunnerError `wrong_output` where they differ."""
        found = [self._outputs_of(worker, index) for worker in self._workers]
        for number, values in enumerate(found[1:], 1):
            for value, first in zip(values, found[0], strict=True):
                same = np.array_equal(value, first, equal_nan=True)
                if not same and not relative_error(value, first) <= self._tolerance:
                    raise RunnerError(
                        "wrong_output",
                        f"stream {number} gives another output than stream 0 for input {index}",
                        "Contexts share memory that they may not: time it with streams=1.",
                    )
        return found[0]

    def feed(self, index: int, value: Array) -> None:
        """Another input of the same shape in place of input `index`; nothing that is timed does so."""
        np.copyto(self._host_inputs[index], value, casting="same_kind")
        self._copy_in(self._workers[0], index)
        self._finish(self._workers[0])

    def describe(self) -> Description:
        options, facts = self._options, self._facts
        return Description(
            runtime=f"{self._loaded.package} on {facts.name} ({facts.compute_capability}), driver"
            f" {facts.driver_version}, {self._cuda.name}",
            timed=_timed(options),
            sync=f"cudaEventSynchronize after every sample, {'blocking' if options.blocking else 'spinning'}",
            transfers="none" if options.transfers == "none" else "host to device and back, beside the sample",
            clock=CLOCK_NAME,
            queue_depth=options.streams,
            cuda_graph=options.cuda_graph,
            options={
                "streams": str(options.streams),
                "engine_types": self._types,
                "input_type": self._tensors.input_type,
                "multiprocessors": str(facts.multiprocessors),
            },
        )

    def close(self) -> None:
        self.device_side = None
        self._workers.clear()
        self._cuda.close()
        del self._loaded

    def _place(self, inputs: list[Array]) -> None:
        """Every input in page-locked memory and on the device, each in a place of its own."""
        cuda, stream = self._cuda, self._cuda.stream()
        self._shape = tuple(inputs[0].shape)
        self._host_inputs = [cuda.pinned(value.shape, value.dtype) for value in inputs]
        self._inputs = [cuda.allocate(value.nbytes) for value in inputs]
        for target, value, address in zip(self._host_inputs, inputs, self._inputs, strict=True):
            target[...] = value
            cuda.copy_in(address, target, stream)
        cuda.record(self._done, stream)
        cuda.synchronize(self._done)

    def _worker(self) -> Worker:
        cuda, loaded, tensors = self._cuda, self._loaded, self._tensors
        context, stream = trt_loading.new_context(loaded), cuda.stream()
        address = cuda.stream_address(stream)
        trt_tensors.set_shape(loaded, context, tensors, self._shape, address)
        host_outputs = trt_tensors.output_arrays(cuda, loaded, context, tensors)
        outputs = [cuda.allocate(value.nbytes) for value in host_outputs]
        for name, output in zip(tensors.outputs, outputs, strict=True):
            if not context.set_tensor_address(name, output):
                raise RunnerError("load", f"output '{name}' takes no address: {loaded.log.last()}")
        plain = self._enqueue(context, address)
        return Worker(context, stream, outputs, host_outputs, plain, plain)

    def _enqueue(self, context: Any, stream: int) -> Callable[[int], None]:
        set_address, execute, name = context.set_tensor_address, context.execute_async_v3, self._tensors.input
        addresses, log = self._inputs, self._loaded.log

        def enqueue(index: int) -> None:
            if not (set_address(name, addresses[index]) and execute(stream)):
                raise RunnerError("infer", f"the engine refuses an inference: {log.last()}")

        return enqueue

    def _settle(self) -> None:
        """Every input once on every stream, so that nothing is compiled or allocated later; then graphs."""
        for worker in self._workers:
            for index in range(len(self._inputs)):
                worker.plain(index)
                self._finish(worker)
            if self._options.cuda_graph:
                graphs = [self._captured(worker, index) for index in range(len(self._inputs))]
                worker.infer = _replay(self._cuda, graphs, worker.stream)

    def _captured(self, worker: Worker, index: int) -> Any:
        """The graph of one inference on one input, whose address is part of it; replayed once to load it.

        The same inference runs just before: TensorRT may put work off to the first run after a change.
        """
        cuda = self._cuda
        capturable = getattr(worker.context, "is_stream_capturable", None)
        if capturable is not None and not capturable(cuda.stream_address(worker.stream)):
            raise RunnerError("load", "this engine cannot be captured in a CUDA graph", NO_GRAPH)
        try:
            worker.plain(index)
            self._finish(worker)
            cuda.begin_capture(worker.stream)
            try:
                worker.plain(index)
            finally:
                graph = cuda.end_capture(worker.stream)
            cuda.launch(graph, worker.stream)
            self._finish(worker)
        except RunnerError as error:
            raise RunnerError("load", f"CUDA graph capture failed: {error}", NO_GRAPH) from error
        return graph

    def _lane(self, worker: Worker) -> Lane:
        if self._options.transfers == "none":
            return Lane(worker.stream, worker.infer)
        return Lane(
            worker.stream, worker.infer, partial(self._copy_in, worker), partial(self._copy_out, worker)
        )

    def _copy_in(self, worker: Worker, index: int) -> None:
        self._cuda.copy_in(self._inputs[index], self._host_inputs[index], worker.stream)

    def _copy_out(self, worker: Worker) -> None:
        for target, address in zip(worker.host_outputs, worker.outputs, strict=True):
            self._cuda.copy_out(target, address, worker.stream)

    def _outputs_of(self, worker: Worker, index: int) -> list[Array]:
        for value, address in zip(worker.host_outputs, worker.outputs, strict=True):
            value.fill(0)  # what an earlier inference left here must not pass for this one's
            self._cuda.copy_in(address, value, worker.stream)
        if self._options.transfers == "both":
            self._copy_in(worker, index)
        worker.infer(index)
        self._copy_out(worker)
        self._finish(worker)
        return [np.array(value) for value in worker.host_outputs]

    def _finish(self, worker: Worker) -> None:
        self._cuda.record(self._done, worker.stream)
        self._cuda.synchronize(self._done)

    def _peak_bytes(self) -> tuple[int, str]:
        """Everything is allocated while loading, so what is in use after the timed part is the most."""
        used = self._free_before - self._cuda.memory()[0]
        return max(0, used), "cudaMemGetInfo, before loading less after the timed part, of the whole device"

    def _layers(self) -> dict[str, int]:
        worker = self._workers[0]

        def run(number: int) -> None:
            worker.plain(number % len(self._inputs))
            self._finish(worker)

        return trt_layers.profile(self._loaded.trt, worker.context, run)


def _replay(cuda: Cuda, graphs: Sequence[Any], stream: Any) -> Callable[[int], None]:
    launch = cuda.launch

    def replay(index: int) -> None:
        launch(graphs[index], stream)

    return replay


def _timed(options: Options) -> str:
    what = "cudaGraphLaunch of a captured inference" if options.cuda_graph else "execute_async_v3"
    if options.streams > 1:
        what += f" on {options.streams} streams in turn: the batch's time over its number, not a latency"
    return f"{what}; {PASSES}"
