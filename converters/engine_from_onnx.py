"""Engines: an ONNX file -> parsed -> types read back -> built for one compute capability.

No GPU is needed to build for a target that tensorrt_rtx knows. Comparing the engine's outputs with the
reference needs one, and is done where the engine is timed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.artifact import (
    CALIBRATION_FACTS,
    Artifact,
    ConversionError,
    ConversionFailure,
    ConversionRequest,
    Step,
)
from converters.engine_builder import BuiltEngine, Observers, build
from converters.engine_log import BuilderLog, recording
from converters.engine_options import EngineOptions, read
from converters.engine_progress import stoppable
from converters.files import sha256_of
from converters.keys import cache_key
from converters.left_out_forms import FORM_NAMES
from converters.tensorrt_package import capability_here, instead, load, title
from models.spec import Option, replaced_fact

FILE, LOG, LAYERS = "model.engine", "builder.log", "layers.json"
_OF_THE_NETWORK = frozenset((*map(replaced_fact, FORM_NAMES), *CALIBRATION_FACTS))


def convert(
    request: ConversionRequest,
    folder: Path,
    *,
    source: Artifact,
    on_step: Callable[[str], None] = lambda name: None,
) -> Artifact:
    """Write `model.engine` and the source's `tensors.npz` into `folder` and describe them.

    `source` is the artifact of `converters.stages.source_request(request)`, in its place in the artifact
    cache. `builder.log` beside the engine has what the builder said; `layers.json` what the engine's
    inspector tells, where the GPU that it was built for is here. Raises ConversionError (`bad_input`,
    `unsupported`, `export_failed`, `precision_mismatch`, `out_of_memory`) with the source's ledger.
    """
    started = time.perf_counter_ns()
    on_step("engine")
    try:
        return _convert(request, folder, source=source, on_step=on_step, started_ns=started)
    except ConversionError as error:
        raise ConversionError(replace(error.failure, steps=source.steps)) from error


def _convert(
    request: ConversionRequest,
    folder: Path,
    *,
    source: Artifact,
    on_step: Callable[[str], None],
    started_ns: int,
) -> Artifact:
    options = read(request)
    trt = load(request, options)
    with recording(trt) as (logger, log), stoppable() as stop:
        built = build(
            trt,
            request,
            options,
            data=source.path.read_bytes(),
            observers=Observers(logger, log, lambda phase: on_step(f"engine: {phase}"), stop),
            cache_root=source.path.parents[1],
        )
        path = folder / FILE
        path.write_bytes(memoryview(built.plan))
        layers = _inspected(trt, logger, built, request.target, folder / LAYERS)
    (folder / LOG).write_text(str(log))
    tensors = _beside(source.tensors, folder)
    target = request.target or capability_here()
    note = instead(request, trt.__name__)
    facts = {"builder": title(trt), "target": target, **_facts(built, options, log), **layers}
    facts |= {"builder_note": note} if note else {}
    facts |= {name: value for name, value in source.facts.items() if name in _OF_THE_NETWORK}
    return replace(
        source,
        kind=request.kind,
        path=path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        key=cache_key(request),
        batch_size=request.batch_size,
        inputs=built.inputs,
        outputs=built.outputs,
        tensors=tensors,
        steps=(*source.steps, _step(trt, built, target, note, time.perf_counter_ns() - started_ns)),
        toolchain={**source.toolchain, trt.__name__: trt.__version__},
        conversion_ns=time.perf_counter_ns() - started_ns,
        target=request.target,
        build=request.build,
        flavour=request.flavour,
        source_key=source.key,
        facts=facts,
    )


def _facts(built: BuiltEngine, options: EngineOptions, log: BuilderLog) -> dict[str, Option]:
    """What parser and builder tell; nothing is derived that only a GPU can."""
    return {
        "layers": built.layers,
        "build_ns": built.build_ns,
        "tf32": options.tf32,
        **built.types.facts(),
        **log.facts(),
    }


def _step(trt: Any, built: BuiltEngine, target: str, note: str, duration_ns: int) -> Step:
    notes = (note, *built.notes, "compared with the reference where it is timed")
    said = (f"for {target}", str(built.types), *notes)
    return Step("engine", title(trt), None, duration_ns, "; ".join(filter(None, said)))


def _beside(tensors: Path, folder: Path) -> Path:
    """The source's inputs and references, without a second copy where the file system can."""
    path = folder / tensors.name
    try:
        os.link(tensors, path)
    except OSError:
        shutil.copyfile(tensors, path)
    return path


def _inspected(trt: Any, logger: Any, built: BuiltEngine, target: str, path: Path) -> dict[str, Option]:
    """Have the engine's own inspector write its layers, where the GPU is here; nothing where it is not.

    Raises ConversionError where that GPU refuses the engine that was built for it.
    """
    here = capability_here()
    if not here or target not in ("", here):
        return {}
    engine = trt.Runtime(logger).deserialize_cuda_engine(memoryview(built.plan))
    if engine is None:
        message = f"the engine cannot be loaded on the GPU here ({here}), for which it was built"
        raise ConversionError(ConversionFailure("export_failed", "engine", message))
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    path.write_text(told)
    return {"engine_layers": len(json.loads(told)["Layers"])}
