"""A graph whose batch size is open is run at another one than it was exported at."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.failures import failure_of
from converters.ledger import Ledger
from converters.onnx_graph import fixed_batch
from converters.parity import Array
from converters.source import Source, draw_of, run_eager

# How ONNX Runtime and PyTorch word that a value has not the shape that an operator wants.
_SHAPE = re.compile(r"shape|dimension|broadcast|size of tensor|sizes of tensors", re.IGNORECASE)
_TYPED = ("float16", "bfloat16", "quantized")


def check_other_batch(
    request: ConversionRequest, ledger: Ledger, run: Callable[[Sequence[Array]], Sequence[Array]]
) -> None:
    """Enter a step `batch N` with the parity at one more than the request's batch size.

    Raises ConversionError: `unsupported` where the batch size is written into the graph, so that shapes do
    not fit or outputs differ; what memory or the runtime refuse for another reason as what it is.
    """
    size = request.batch_size + 1
    name = f"batch {size}"
    ledger_there = ledger.fork(_source_there(request, ledger, size))
    ledger_there.begin(name)
    try:
        ledger_there.end(
            name,
            "the same graph",
            lambda: run(ledger_there.source.inputs),
            precision=request.precision if ledger.steps[-1].name in _TYPED else "fp32",
            note=f"exported at batch {request.batch_size}",
        )
    except ConversionError as error:
        failure = _explained(error.failure, request.model.name, size)
        raise ConversionError(replace(failure, step=name, steps=tuple(ledger.steps))) from error
    ledger.steps[:] = ledger_there.steps


def _source_there(request: ConversionRequest, ledger: Ledger, size: int) -> Source:
    """The eager network with inputs of that batch size, and what it makes of them."""
    source = ledger.source
    inputs = draw_of(replace(request, batch_size=size))(0, min(2, request.input_count))
    try:
        reference = run_eager(source.net, inputs)
    except Exception as error:  # the network's own code raises anything at a batch size it does not expect
        failure = failure_of(error, f"batch {size}", net=source.net, steps=tuple(ledger.steps))
        raise ConversionError(_explained(failure, request.model.name, size)) from error
    return replace(source, inputs=inputs, reference=reference)


def _explained(failure: ConversionFailure, model: str, size: int) -> ConversionFailure:
    """Only shapes and outputs that are wrong at the other batch size say that the graph fixes it."""
    message = f"at batch {size} {failure.message}"
    if failure.kind == "out_of_memory":
        advice = "Free memory, or leave dynamic_batch out: it needs a run at one more than the batch size."
        return replace(failure, message=message, advice=advice)
    if failure.kind == "parity_failed" or _SHAPE.search(failure.message):
        found = fixed_batch(model, message).failure
        return replace(found, step=failure.step, steps=failure.steps)
    return replace(failure, message=message)
