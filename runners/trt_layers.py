"""What an engine tells about its layers: the types they run in, and how long each takes.

The inspector's text differs between versions; types are read where a layer lists its tensors with their
formats, which needs an engine built with detailed profiling verbosity. Where it tells none, nothing is
concluded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from runners.measurement import Job
from runners.runner import RunnerError, require_precision

PROFILED = 10  # inferences; each layer's median counts
BINDING_ERRORS = (
    RuntimeError,
    TypeError,
    AttributeError,
    ValueError,
)  # of the package
TYPES = {"fp16": "fp16", "half": "fp16", "bf16": "bf16", "bfloat16": "bf16", "int8": "int8", "fp8": "fp8"}
WORDS = re.compile(r"\b(fp32|float|fp16|half|bf16|bfloat16|int8|fp8)\b", re.IGNORECASE)
NOT_TOLD = "not told by the engine"


def executed_types(trt: Any, engine: Any) -> tuple[str, ...]:
    """The floating-point and int8 types of the tensors between an engine's layers, sorted; empty if untold.

    An engine without an inspector, or whose text is no JSON, tells none.
    """
    inspector = engine.create_engine_inspector()
    if inspector is None:
        return ()
    try:
        value = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    except ValueError:
        return ()
    layers = value.get("Layers", []) if isinstance(value, dict) else []
    tensors = [
        tensor
        for layer in layers
        if isinstance(layer, dict)
        for tensor in (*layer.get("Inputs", ()), *layer.get("Outputs", ()))
        if isinstance(tensor, dict)
    ]
    texts = (str(tensor.get("Format/Datatype", tensor.get("Datatype", ""))) for tensor in tensors)
    words = {word.lower() for text in texts for word in WORDS.findall(text)}
    return tuple(sorted({TYPES.get(word, "fp32") for word in words}))


def require_types(job: Job, types: tuple[str, ...]) -> str:
    """The types as text for the protocol; RunnerError `precision_mismatch` where they contradict the job.

    fp32 means that nothing narrower runs; another precision, that it runs somewhere: its graph may keep some
    nodes in fp32.
    """
    if not types:
        return NOT_TOLD
    narrower = [name for name in types if name != "fp32"]
    if job.precision == "fp32" and narrower:
        require_precision(job, narrower[0], "a layer of the engine")
    if job.precision not in types:
        require_precision(job, narrower[0] if narrower else "fp32", "every layer of the engine")
    return ",".join(types)


def profile(trt: Any, context: Any, run: Callable[[int], None]) -> dict[str, int]:
    """Nanoseconds of one inference by layer, in order of execution: medians over PROFILED inferences.

    `run` enqueues one inference of the context and waits for it. Layers are timed one by one, so their sum is
    more than an inference takes. The context keeps the profiler: it is good for nothing else afterwards.
    Raises RunnerError `infer` for an error of the package, and where it reports other layers from one
    inference to the next.
    """
    try:
        passes = _profiled(trt, context, run)
    except BINDING_ERRORS as error:
        message = f"the profiler failed: {type(error).__name__}: {error}"
        raise RunnerError("infer", message, "Nothing but the layers' times is missing.") from error
    names = list(passes[0])
    if any(list(found) != names for found in passes):
        raise RunnerError("infer", "the profiler's layers differ between inferences")
    return {name: round(float(np.median([found[name] for found in passes])) * 1e6) for name in names}


def _profiled(trt: Any, context: Any, run: Callable[[int], None]) -> list[dict[str, float]]:
    """Milliseconds by layer, of each of PROFILED inferences."""
    recorded: dict[str, float] = {}

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            recorded[layer_name] = recorded.get(layer_name, 0.0) + ms

    profiler = Profiler()
    context.profiler = profiler
    passes = []
    for number in range(PROFILED):
        recorded.clear()
        run(number)
        passes.append(dict(recorded))
    return passes
