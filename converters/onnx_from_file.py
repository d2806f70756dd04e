"""ONNX from an ONNX file of somebody's own: checked, its shape settled, in the precision asked for.

There is no eager network to compare with. The reference is what ONNX Runtime computes from the untouched
file on a CPU, without graph optimizations; the ledger says so.
"""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from converters import foreign_onnx, onnx_graph, onnx_types
from converters.artifact import (
    Artifact,
    ConversionError,
    ConversionFailure,
    ConversionRequest,
    Step,
    TensorInfo,
)
from converters.keys import cache_key
from converters.ledger import Ledger, OnStep, assemble, ignore_step
from converters.onnx_header import identity
from converters.onnx_precision import typed
from converters.parity import Array
from converters.source import Draw, Source, draw_of
from models.counting import Counts

INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
PIXELS = "tensor(uint8)"
OUTPUT_TYPES = tuple(INPUT_TYPES)
# How ONNX Runtime says that it has no such operator, or none for this processor.
_OPERATORS = (
    re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op"),
    re.compile(r"Could not find an implementation for (\S+?)\(\d+\)"),
    re.compile(r"No Op registered for (\S+)"),
)
NO_EAGER = "no eager form: the reference is the untouched file, fp32 kernels of a CPU, not optimized"


class FileNetwork(nn.Module):
    """The untouched file as a module: its forward pass is ONNX Runtime's."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._name = session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the file's only output."""
        return torch.from_numpy(self._session.run(None, {self._name: x.numpy()})[0])


@dataclass(frozen=True, slots=True)
class FileSource(Source):
    """A source without an eager network; it cannot be computed in float64, so no tolerance is widened."""

    def rounding(self) -> float:
        return 0.0


def convert(request: ConversionRequest, folder: Path, *, on_step: OnStep = ignore_step) -> Artifact:
    """Write `model.onnx` and `tensors.npz` into `folder` and describe them.

    `request.checkpoint` is the file, whose `identity` the model's weights name. Raises ConversionError:
    `bad_input` for a damaged file, weights outside its folder and shapes that it does not take, `unsupported`
    for operators that a CPU does not compute and for several inputs or outputs, `precision_mismatch`.
    """
    started = time.perf_counter_ns()
    on_step("opened")
    proto = _opened(request)
    on_step("reference")
    begun = time.perf_counter_ns()
    session = _session(onnx_graph.serialize(proto), request)
    draw = _draw(request, session)
    inputs, timed = draw(0, request.input_count + request.judged_count), request.input_count
    shaped = _shaped(proto, request, inputs[0].shape)
    report = onnx_types.read(shaped)
    macs = sum(node.macs for node in report.macs)
    reference = _outputs(session, inputs, request)
    network = FileNetwork(session)
    gmacs = macs / request.batch_size / 1e9
    judged = tuple(zip(inputs[timed:], reference[timed:], strict=True))
    counts_of = Counts(_params_m(proto), gmacs)
    source = FileSource(network, inputs[:timed], reference[:timed], counts_of, draw, judged)
    tool = f"onnxruntime {version('onnxruntime')} CPUExecutionProvider"
    steps = [Step("reference", tool, None, time.perf_counter_ns() - begun, NO_EAGER)]
    ledger = Ledger(source, on_step, steps)
    _take_over(shaped, ledger, request)
    final, computes, facts = _in_precision(shaped, report, request, ledger)
    onnx_graph.describe(final, {"key": cache_key(request), "computes": computes})
    path = folder / "model.onnx"
    path.write_bytes(onnx_graph.serialize(final))
    counts = onnx_graph.op_counts(final)
    artifact = assemble(
        request,
        ledger,
        path,
        inputs=onnx_graph.tensor_infos([_graph_inputs(final)[0]]),
        outputs=[TensorInfo(final.graph.output[0].name, _dtype(final), reference[0].shape)],
        op_counts=counts,
        batchnorms_left=counts.get("BatchNormalization", 0),
        folded={},
        started_ns=started,
    )
    return replace(artifact, facts={**artifact.facts, **facts, "origin": request.model.name}, modules={})


def _opened(request: ConversionRequest) -> onnx.ModelProto:
    """The file, once it is sure to be the one that was planned and to read nothing outside of its folder."""
    path, name = request.checkpoint, request.model.name
    if path is None:
        raise _bad_input(
            f"{name} is not in the cache, and where it lies is not told", f"Give --model PATH/{name}."
        )
    try:
        if identity(path) != request.model.weights.removeprefix("sha256:"):
            raise _bad_input(f"{path} was changed since it was planned", "Run the same command again.")
        return foreign_onnx.load(path)
    except foreign_onnx.ForeignOnnxError as error:
        raise _bad_input(str(error), "Export it again, with its weights in its own folder.") from error
    except OSError as error:
        raise _bad_input(f"{path}: cannot be read: {error.strerror}", "Make it readable.") from error


def _session(data: bytes, request: ConversionRequest) -> Any:
    try:
        return onnx_graph.open_session(data)
    except Exception as error:  # ONNX Runtime's exceptions have no public base
        raise _refused(error, request) from error


def _refused(error: Exception, request: ConversionRequest) -> ConversionError:
    text = str(error)
    operator = next((found[1] for pattern in _OPERATORS if (found := pattern.search(text))), "")
    if operator:
        message = (
            f"{request.model.name} has the operator {operator}, which ONNX Runtime cannot compute on a CPU"
        )
        advice = "Export it with operators of the ONNX standard."
        return ConversionError(
            ConversionFailure("unsupported", "reference", message, operator, advice=advice)
        )
    short = re.sub(r"\s+", " ", text)[:400]
    return _bad_input(f"{request.model.name}: ONNX Runtime refuses it: {short}", "Export it again.")


def _graph_inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {weight.name for weight in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def _draw(request: ConversionRequest, session: Any) -> Draw:
    """Gives inputs of the file's type and the shape asked for; ConversionError where it takes no such."""
    declared = session.get_inputs()
    _check_ends(request, declared, session.get_outputs())
    shape, kind = request.model.input_shape(request.batch_size), declared[0].type
    taken = [side if isinstance(side, int) else None for side in declared[0].shape]
    _check_shape(request, taken, shape)
    if kind == PIXELS:
        if request.calibration:
            raise _unsupported(f"{request.model.name} takes pixels: it can be calibrated on random ones")
        return partial(_pixels, request)
    return partial(_values, draw_of(request), INPUT_TYPES[kind])


def _pixels(request: ConversionRequest, first: int, count: int) -> tuple[Array, ...]:
    shape = request.model.input_shape(request.batch_size)
    seeds = [np.random.default_rng((request.input_seed, k)) for k in range(first, first + count)]
    pixels: list[Any] = [rng.integers(0, 256, shape, dtype=np.uint8) for rng in seeds]
    return tuple(pixels)


def _values(draw: Draw, dtype: Any, first: int, count: int) -> tuple[Array, ...]:
    return tuple(value.astype(dtype) for value in draw(first, count))


def _check_ends(request: ConversionRequest, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    name = request.model.name
    for ends, what, verb in ((inputs, "input", "measured"), (outputs, "output", "compared")):
        if len(ends) != 1:
            names = ", ".join(end.name for end in ends[:8])
            raise _unsupported(f"{name} has {len(ends)} {what}s ({names}): one can be {verb}")
    for end, known in ((inputs[0], (*INPUT_TYPES, PIXELS)), (outputs[0], OUTPUT_TYPES)):
        if end.type not in known:
            raise _unsupported(f"{name}: '{end.name}' is a {end.type}: {', '.join(known)} can be random")


def _check_shape(request: ConversionRequest, taken: Sequence[int | None], shape: Sequence[int]) -> None:
    name, words = request.model.name, "x".join(str(side or "?") for side in taken)
    if len(taken) == len(shape) and taken[0] not in (None, shape[0]):
        message = (
            f"{name} takes batch {taken[0]} alone (its input is {words}): batch {shape[0]} was asked for"
        )
        raise _bad_input(message, "Export it with an open batch dimension, or ask for its own batch size.")
    if len(taken) != len(shape) or any(
        own not in (None, side) for own, side in zip(taken, shape, strict=True)
    ):
        asked = "x".join(map(str, shape))
        raise _bad_input(f"{name} takes {words}: {asked} was asked for", f"Ask for what it takes: {words}.")


def _shaped(proto: onnx.ModelProto, request: ConversionRequest, shape: Sequence[int]) -> onnx.ModelProto:
    """A copy whose open dimensions are set, as runtimes deploy it."""
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

    fixed = copy.deepcopy(proto)
    entry = _graph_inputs(fixed)[0]
    if any(not dim.dim_value for dim in entry.type.tensor_type.shape.dim):
        try:
            make_input_shape_fixed(fixed.graph, entry.name, list(shape))
            fix_output_shapes(fixed)
        except Exception as error:  # inference over a foreign graph may raise anything
            words = "x".join(map(str, shape))
            raise _bad_input(
                f"{request.model.name} cannot be set to {words}: {error}"[:500], _OWN_SHAPE
            ) from error
    return fixed


_OWN_SHAPE = "Export it with the shape that it is measured at."


def _outputs(session: Any, inputs: Sequence[Array], request: ConversionRequest) -> tuple[Array, ...]:
    name = session.get_inputs()[0].name
    try:
        outputs = [session.run(None, {name: value})[0].astype(np.float32) for value in inputs]
    except Exception as error:  # ONNX Runtime's exceptions have no public base
        words, short = "x".join(map(str, inputs[0].shape)), re.sub(r"\s+", " ", str(error))[:300]
        raise _bad_input(f"{request.model.name} does not run on {words}: {short}", _OWN_SHAPE) from error
    if not all(np.isfinite(value).all() for value in outputs):
        message = f"{request.model.name} returns values that are not finite for standard normal inputs"
        raise _bad_input(message, "Check its weights.")
    return tuple(outputs)


def _take_over(shaped: onnx.ModelProto, ledger: Ledger, request: ConversionRequest) -> None:
    """The step that shows the copy, with its shape set, to compute what the file does."""
    ledger.begin("taken over")
    words = "x".join(map(str, ledger.source.inputs[0].shape))
    sha256 = request.model.weights.removeprefix("sha256:")
    ledger.end(
        "taken over",
        f"onnx {version('onnx')}",
        lambda: onnx_graph.run(onnx_graph.serialize(shaped), ledger.source.inputs),
        note=f"{request.model.name}, sha256 {sha256[:12]}; input {words}",
    )


def _in_precision(
    shaped: onnx.ModelProto, report: onnx_types.TypeReport, request: ConversionRequest, ledger: Ledger
) -> tuple[onnx.ModelProto, str, dict[str, Any]]:
    """The file as it is where it has that precision, else rewritten; and in what it computes."""
    if report.precision == request.precision:
        others = [node.name for node in report.macs if node.precision != request.precision]
        onnx_types.require(report, request.precision, islands=others)
        return shaped, report.precision, dict(report.facts())
    if report.precision != "fp32":
        raise onnx_types.mismatch(
            f"{request.model.name} computes in {report.precision}, and {request.precision} was asked for"
        )
    made = typed(shaped, request, ledger)
    return made.proto, made.computes, dict(made.facts)


def _params_m(proto: onnx.ModelProto) -> float:
    """Weights in millions; what is an index or a shape is none."""
    kinds = onnx_types.PRECISION_OF_TYPE
    counts = [math.prod(w.dims) for w in proto.graph.initializer if w.data_type in kinds]
    return float(sum(counts)) / 1e6


def _dtype(proto: onnx.ModelProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(proto.graph.output[0].type.tensor_type.elem_type))


def _unsupported(message: str) -> ConversionError:
    advice = "Export the part with one image input and one output."
    return ConversionError(ConversionFailure("unsupported", "opened", message, advice=advice))


def _bad_input(message: str, advice: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "opened", message, advice=advice))
