"""The last step of an ONNX conversion: the graph in the precision asked for, and the proof that it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import onnx

from converters import onnx_graph, onnx_rounding, onnx_types
from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.calibration import calibration_of
from converters.failures import failure_of
from converters.ledger import Ledger
from converters.onnx_cast import STEP_NAMES
from converters.onnx_float16 import Choice, choose
from converters.parity import LEAST_COSINES, NODE_TOLERANCE, TOLERANCES, Array, compare, is_close
from models.spec import Option


@dataclass(frozen=True, slots=True)
class Typed:
    """A graph in the precision asked for; `computes` is what its types say, `facts` the figures."""

    proto: onnx.ModelProto
    computes: str
    facts: Mapping[str, Option]


def typed(proto: onnx.ModelProto, request: ConversionRequest, ledger: Ledger) -> Typed:
    """The graph of a request in its precision, with the step that this takes entered in the ledger.

    Raises ConversionError `unsupported`, `export_failed`, `parity_failed` and `precision_mismatch`.
    """
    if request.precision == "fp32":
        report = onnx_types.read(proto)
        onnx_types.require(report, "fp32")
        return Typed(proto, report.precision, report.facts())
    step = STEP_NAMES[request.precision]
    ledger.begin(step)
    try:
        if request.precision == "int8":
            return _quantized(proto, request, ledger)
        return _lowered(proto, request.precision, ledger)
    except Exception as error:  # tools and runtimes raise types of their own at what a graph holds
        failure = failure_of(error, step)
        raise ConversionError(
            replace(failure, step=step, steps=failure.steps or tuple(ledger.steps))
        ) from error


def run_typed(proto: onnx.ModelProto, precision: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of a graph in that precision, as its step judges them."""
    if precision in ("fp16", "bf16"):
        return onnx_rounding.run(proto, inputs)
    return onnx_graph.run(onnx_graph.serialize(proto), inputs)


def _lowered(proto: onnx.ModelProto, precision: str, ledger: Ledger) -> Typed:
    source, step = ledger.source, STEP_NAMES[precision]
    tolerance = TOLERANCES[precision]
    choice = choose(
        proto,
        precision,
        source.inputs,
        passes=lambda outputs: compare(source.reference, outputs, tolerance).passed,
    )
    made = choice.lowered.proto
    onnx_graph.check(made, step=step)
    report = onnx_types.read(made)
    loaded = _loaded(made, ledger) if precision == "fp16" else _NOT_LOADED
    ledger.end(
        step,
        f"onnx {version('onnx')}",
        lambda: choice.outputs,
        precision=precision,
        note="; ".join(filter(None, (choice.note(), str(report), _clamped(choice, precision), loaded))),
    )
    onnx_types.require(report, precision, islands=choice.islands)
    return Typed(made, report.precision, {**report.facts(), "islands": len(choice.islands)})


_NOT_LOADED = "outputs by rounding every value in fp32 operators: no runtime here loads bfloat16"


def _loaded(proto: onnx.ModelProto, ledger: Ledger) -> str:
    """Whether the file itself loads and runs. It is judged by its twin: this runtime leaves roundings out."""
    try:
        output = onnx_graph.run(onnx_graph.serialize(proto), ledger.source.inputs[:1])[0]
    except Exception as error:  # the runtime's own types; the file is at fault whatever it raised
        message = f"ONNX Runtime refuses the fp16 graph: {type(error).__name__}: {error}"[:500]
        raise ConversionError(ConversionFailure("export_failed", STEP_NAMES["fp16"], message)) from error
    close = is_close(ledger.source.reference[0], output, TOLERANCES["fp16"])
    told = "outputs by rounding every value in fp32 operators"
    return f"{told}; the file {'agrees' if close else 'differs'} in ONNX Runtime, which leaves roundings out"


def _clamped(choice: Choice, precision: str) -> str:
    names = choice.lowered.clamped
    return f"{len(names)} constants clamped to {precision}'s range: {', '.join(names[:3])}" if names else ""


def _quantized(proto: onnx.ModelProto, request: ConversionRequest, ledger: Ledger) -> Typed:
    from converters import onnx_quantize

    step, calibration = STEP_NAMES["int8"], calibration_of(request, ledger.source)
    judged = calibration.judged
    prepared = onnx_quantize.prepared(proto)
    made = onnx_quantize.quantize(prepared, request.flavour, calibration.inputs)
    onnx_graph.check(made, step=step)
    report = onnx_types.read(made)
    timed = ledger.source.inputs  # the first of those judged: each node is run twice for every one
    errors = onnx_quantize.node_errors(prepared, made, tuple(onnx_types.COUNTED), timed)
    data = onnx_graph.serialize(made)
    ledger.end(
        step,
        f"onnxruntime {version('onnxruntime')} quantize_static",
        lambda: _run_checked(data, judged.inputs, errors),
        precision="int8",
        note=f"{_quantized_note(request, report, errors)}; {calibration.told}",
        judged=judged,
    )
    onnx_types.require(report, "int8")
    facts = {**report.facts(), "quantize_nodes": report.quantize_nodes, **calibration.facts}
    return Typed(made, report.precision, facts)


def _run_checked(data: bytes, inputs: Sequence[Array], errors: Mapping[str, float]) -> tuple[Array, ...]:
    """The outputs, once every node alone is accurate: those of a deep network with random weights are not."""
    name, worst = max(errors.items(), key=lambda item: item[1], default=("", 0.0))
    if not worst <= NODE_TOLERANCE:
        raise ConversionError(
            ConversionFailure(
                "parity_failed",
                STEP_NAMES["int8"],
                f"node '{name}' alone {_off(worst)} in int8 (tolerance {NODE_TOLERANCE})",
                advice="The ranges of its values do not fit in 8 bits; measure this model in fp16.",
            )
        )
    return onnx_graph.run(data, inputs)


def _quantized_note(
    request: ConversionRequest, report: onnx_types.TypeReport, errors: Mapping[str, float]
) -> str:
    name, worst = max(errors.items(), key=lambda item: item[1], default=("", 0.0))
    return (
        f"flavour {request.flavour}; {report}; {report.quantize_nodes} QuantizeLinear; the worst node alone, "
        f"'{name}', {_off(worst)}; cosine at least {LEAST_COSINES['int8']}"
    )


def _off(error: float) -> str:
    return "is not finite" if math.isinf(error) else f"is {100 * error:.1f} % off"
