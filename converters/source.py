"""What every conversion starts from: the eager fp32 network, its inputs, its outputs and its size."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.calibration_images import held_out
from converters.failures import failure_of
from converters.parity import Array, compare, make_inputs
from converters.quiet import captured
from models import instantiate
from models.counting import Counts, count
from models.spec import ModelSpec

Draw = Callable[[int, int], tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """The unfused eager network; `reference[k]` is its fp32 output for `inputs[k]`, `counts` at batch 1.

    `draw(first, count)` gives more inputs of that kind: `inputs` are those from 0 on. `judged` are the next
    ones with their outputs, as many as the request asks for.
    """

    net: nn.Module
    inputs: tuple[Array, ...]
    reference: tuple[Array, ...]
    counts: Counts
    draw: Draw
    judged: tuple[tuple[Array, Array], ...] = ()

    def rounding(self) -> float:
        """How far the eager fp32 outputs are from the same network's in float64, relative to the largest."""
        precise = copy.deepcopy(self.net).double()
        with captured(), torch.no_grad():
            exact = [precise(torch.from_numpy(value).double()).numpy() for value in self.inputs]
        return compare(exact, self.reference, 0).max_relative

    @property
    def example(self) -> Tensor:
        return torch.from_numpy(self.inputs[0])


def build_source(request: ConversionRequest) -> Source:
    """Build the network of a request and run it.

    Raises ModelError or CheckpointError for what cannot be built, ConversionError `bad_input` for a network
    that does not run at that resolution or does not return one finite tensor.
    """
    draw = draw_of(request)
    inputs = draw(0, request.input_count + request.judged_count)
    with captured():
        net, counts = _network(request.model, request.checkpoint)
        reference = run_eager(net, inputs)
    if not all(np.isfinite(value).all() for value in reference):
        raise _bad_input(
            f"{request.model.name} returns values that are not finite for "
            f"{'images' if request.calibration else 'standard normal inputs'}",
            "Check the checkpoint.",
        )
    timed = request.input_count
    judged = tuple(zip(inputs[timed:], reference[timed:], strict=True))
    return Source(net, inputs[:timed], reference[:timed], counts, draw, judged)


def draw_of(request: ConversionRequest) -> Draw:
    """Gives a request's inputs: of images held out where it is calibrated on images, else random ones."""
    return partial(held_out if request.calibration else _random_inputs, request)


def _random_inputs(request: ConversionRequest, first: int, count: int) -> tuple[Array, ...]:
    return make_inputs(request.model, request.batch_size, seed=request.input_seed, count=count, first=first)


@lru_cache(maxsize=1)
def _network(spec: ModelSpec, checkpoint: Path | None) -> tuple[nn.Module, Counts]:
    """Shared by the fused and unfused conversions of one model; nobody may modify it."""
    net = instantiate(spec, checkpoint=checkpoint).eval()
    try:
        return net, count(net, spec.input_shape(1))
    except Exception as error:  # the network's own code may raise anything
        raise _does_not_run(error, net, spec.input_shape(1)) from error


def run_eager(net: nn.Module, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `net`, one fp32 array per input."""
    try:
        with torch.no_grad():
            outputs = [net(torch.from_numpy(value)) for value in inputs]
    except Exception as error:  # the network's own code may raise anything
        raise _does_not_run(error, net, inputs[0].shape) from error
    return tuple(_as_array(value) for value in outputs)


def _as_array(output: Any) -> Array:
    if not isinstance(output, Tensor):
        kind = f"{len(output)} outputs" if isinstance(output, list | tuple) else type(output).__name__
        raise _bad_input(
            f"the network returns {kind}; one tensor is supported", "Convert a part of the network."
        )
    return np.ascontiguousarray(output.float().numpy())


def _does_not_run(error: Exception, net: nn.Module, shape: tuple[int, ...]) -> ConversionError:
    found = failure_of(error, "eager", net=net)
    if found.kind == "out_of_memory":
        return ConversionError(found)
    size = "x".join(str(side) for side in shape)
    where = f" in {found.module}" if found.module else ""
    return _bad_input(
        f"the network does not run on a {size} input{where}: {found.message}",
        "Check resolution and in_channels against the network's own.",
        module=found.module,
        source_line=found.source_line,
    )


def _bad_input(message: str, advice: str, *, module: str = "", source_line: str = "") -> ConversionError:
    return ConversionError(
        ConversionFailure(
            "bad_input", "eager", message, module=module, source_line=source_line, advice=advice
        )
    )
