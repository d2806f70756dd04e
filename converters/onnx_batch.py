"""A graph whose batch size is open is run at another one than it was exported at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from converters.artifact import ConversionError, ConversionRequest
from converters.ledger import Ledger
from converters.onnx_graph import fixed_batch
from converters.parity import Array, make_inputs
from converters.source import run_eager


def check_other_batch(
    request: ConversionRequest, ledger: Ledger, run: Callable[[Sequence[Array]], Sequence[Array]]
) -> None:
    """Enter a step `batch N` with the parity at one more than the request's batch size.

    Raises ConversionError `unsupported` where the graph fails there: the batch size is written into it.
    """
    size, source = request.batch_size + 1, ledger.source
    inputs = make_inputs(request.model, size, seed=request.input_seed, count=min(2, request.input_count))
    other = replace(source, inputs=inputs, reference=run_eager(source.net, inputs))
    name = f"batch {size}"
    ledger_there = ledger.fork(other)
    ledger_there.begin(name)
    try:
        ledger_there.end(
            name,
            "the same graph",
            lambda: run(inputs),
            precision=request.precision if ledger.steps[-1].name in _TYPED else "fp32",
            note=f"exported at batch {request.batch_size}",
        )
    except ConversionError as error:
        found = fixed_batch(request.model.name, f"at batch {size} {error.failure.message}")
        raise ConversionError(replace(found.failure, step=name, steps=tuple(ledger.steps))) from error
    ledger.steps[:] = ledger_there.steps


_TYPED = ("float16", "bfloat16", "quantized")
