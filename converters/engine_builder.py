"""From a parsed network to the bytes of an engine: the builder's options, its progress and its failures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest, TensorInfo
from converters.engine_log import BuilderLog
from converters.engine_network import build_failure, parse
from converters.engine_options import EngineOptions
from converters.engine_precision import check_declared
from converters.engine_progress import Stop, monitor
from converters.engine_types import read as read_types
from converters.gpu_here import gpu_here
from converters.onnx_types import TypeReport
from converters.tensorrt_package import capability_here, set_target, title
from converters.timing_cache import TimingCache, path_of

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """`plan` gives the engine's bytes through the buffer protocol; `layers` counts those of the parser."""

    plan: Any
    layers: int
    types: TypeReport
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    build_ns: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told during a build (`logger` writes to `log`), and `stop`, which ends it."""

    logger: Any
    log: BuilderLog
    on_phase: Callable[[str], None]
    stop: Stop


def build(
    trt: Any,
    request: ConversionRequest,
    options: EngineOptions,
    *,
    data: bytes,
    observers: Observers,
    cache_root: Path,
) -> BuiltEngine:
    """Parse, check the types, and build. Raises ConversionError with the words of parser or builder."""
    builder = trt.Builder(observers.logger)
    network, _weights = parse(trt, builder, observers.logger, data=data)
    types = read_types(trt, network, request.batch_size)
    check_declared(network, types, data, request.precision)
    config = builder.create_builder_config()
    _configure(trt, config, request, options)
    if options.batches:
        _add_profile(builder, config, network, batches=options.batches)
    timings = TimingCache(path_of(cache_root, trt, request.target or capability_here(), gpu_here()))
    # Without a GPU nothing is timed; who asks for the cache all the same is told why there is none.
    if options.timing_cache or (options.timing_cache is None and capability_here()):
        timings.attach(trt, config, asked=options.timing_cache is True)
    watcher = monitor(trt, observers.on_phase, observers.stop)
    config.progress_monitor = watcher
    started = time.perf_counter_ns()
    plan = builder.build_serialized_network(network, config)
    elapsed = time.perf_counter_ns() - started
    if plan is None:
        raise ConversionError(build_failure(observers.log, data))
    timings.save(config)
    inputs = _infos(network.get_input(k) for k in range(network.num_inputs))
    outputs = _infos(network.get_output(k) for k in range(network.num_outputs))
    notes = tuple(filter(None, (timings.note,)))
    return BuiltEngine(plan, int(network.num_layers), types, inputs, outputs, elapsed, notes)


def _configure(trt: Any, config: Any, request: ConversionRequest, options: EngineOptions) -> None:
    set_target(trt, config, request.target)
    # On by default, it rounds the operands of fp32 multiplications to 10 bits of mantissa.
    (config.set_flag if options.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    # What the engine's inspector and profiler tell about each layer; size and memory are the same.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for name, attribute in (
        ("optimization_level", "builder_optimization_level"),
        ("avg_timing_iterations", "avg_timing_iterations"),
    ):
        value = getattr(options, name)
        if value is not None:
            _set(trt, config, attribute, name=name, value=value)
    if options.workspace_mib is not None:
        limit = options.workspace_mib * 2**20
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
        _expect(trt, "workspace_mib", limit, config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE))


def _set(trt: Any, config: Any, attribute: str, *, name: str, value: int) -> None:
    """Set an option and read it back: a builder may ignore or clip what it does not support."""
    if not hasattr(config, attribute):
        raise _refused(f"{title(trt)} has no option for {name}={value}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setattr(config, attribute, value)
    for warning in caught:
        if issubclass(warning.category, DeprecationWarning):
            raise _refused(f"{name}={value}: {title(trt)} says: {warning.message}")
    _expect(trt, name, value, getattr(config, attribute))


def _expect(trt: Any, name: str, wanted: int, found: int) -> None:
    if found != wanted:
        raise _refused(f"{name}: {title(trt)} made {found} of {wanted}")


def _refused(message: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "engine", message, advice="Change the request."))


def _add_profile(builder: Any, config: Any, network: Any, *, batches: tuple[int, int, int]) -> None:
    """One optimization profile: every input's first axis from the least to the largest batch size."""
    profile = builder.create_optimization_profile()
    for k in range(network.num_inputs):
        tensor = network.get_input(k)
        first, *others = tensor.shape
        if first >= 0:
            message = f"input '{tensor.name}' has a fixed batch size of {first}, and a range is asked for"
            raise ConversionError(ConversionFailure("export_failed", "engine", message))
        profile.set_shape(tensor.name, *((batch, *others) for batch in batches))
    config.add_optimization_profile(profile)


def _infos(tensors: Any) -> tuple[TensorInfo, ...]:
    """As the engine has them; -1 is the batch axis of a range."""
    return tuple(TensorInfo(tensor.name, _dtype(tensor), tuple(tensor.shape)) for tensor in tensors)


def _dtype(tensor: Any) -> str:
    name: str = tensor.dtype.name
    return _DTYPES.get(name, name.lower())
