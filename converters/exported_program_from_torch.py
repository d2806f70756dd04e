"""Exported programs (`.pt2`): eager network -> reparameterized -> torch.export -> saved and loaded again.

PyTorch's eager and compiled runners load this file, so that they measure the same graph as the other runtimes
and import no model code.
"""

from __future__ import annotations

import collections
import copy
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from converters.artifact import Artifact, ConversionError, ConversionRequest, TensorInfo
from converters.divergence import first_divergence, module_outputs
from converters.failures import failure_of
from converters.ledger import Ledger, OnStep, assemble, fuse, ignore_step
from converters.parity import TOLERANCES, Array
from converters.quiet import captured
from converters.source import build_source, run_eager
from models.spec import forms_left_out


class Cast(nn.Module):
    """A network computed in another floating-point type, with fp32 input and output.

    The casts at both ends are part of what is measured, as they are in runtimes that take a precision as an
    option (OpenVINO).
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) fp32
        return _cast_to(self.net(_cast_to(x, self.dtype)), torch.float32)


def _cast_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, which torch.export would accompany with an assertion that every inference runs."""
    result: Tensor = torch.ops.aten._to_copy(x, dtype=dtype)
    return result


def convert(request: ConversionRequest, folder: Path, *, on_step: OnStep = ignore_step) -> Artifact:
    """Write `model.pt2` and `tensors.npz` into `folder` and describe them.

    `bf16` casts parameters and computation and keeps fp32 input and output. Raises ConversionError
    (`bad_input`, `unsupported`, `export_failed`, `parity_failed`) and ModelError.
    """
    started = time.perf_counter_ns()
    on_step("eager")
    source = build_source(request)
    ledger = Ledger(source, on_step)
    net, folded = source.net, {}
    if request.fused:
        net, report = fuse(ledger, left_out=forms_left_out(request.build))
        folded = dict(report.folded)
    if request.precision == "bf16":
        net = _cast(net, ledger)
    path = folder / "model.pt2"
    program = _export(net, ledger, path, precision=request.precision)
    counts = op_counts(program)
    return assemble(
        request,
        ledger,
        path,
        inputs=(TensorInfo("input", "float32", source.inputs[0].shape),),
        outputs=(TensorInfo("output", "float32", source.reference[0].shape),),
        op_counts=counts,
        batchnorms_left=counts.get("batch_norm", 0),
        folded=folded,
        started_ns=started,
    )


def _cast(net: nn.Module, ledger: Ledger) -> nn.Module:
    ledger.begin("cast")
    cast = Cast(net, torch.bfloat16).eval()
    inputs = ledger.source.inputs

    def diverged() -> str:
        ours = module_outputs(cast, inputs[0])
        inner = {name.removeprefix("net").lstrip("."): value for name, value in ours.items() if name}
        return first_divergence(module_outputs(net, inputs[0]), inner, TOLERANCES["bf16"])

    ledger.end("cast", "torch bfloat16", lambda: run_eager(cast, inputs), precision="bf16", diverged=diverged)
    return cast


def _export(net: nn.Module, ledger: Ledger, path: Path, *, precision: str) -> torch.export.ExportedProgram:
    inputs, tool = ledger.source.inputs, f"torch.export {torch.__version__}"
    ledger.begin("exported")
    with captured() as printed, torch.no_grad():
        try:
            program = torch.export.export(net, (ledger.source.example,))
        except Exception as error:  # the tracer raises anything; all of it becomes the recorded failure
            raise ConversionError(
                failure_of(error, "exported", net=net, printed=printed.getvalue())
            ) from error
    ledger.end("exported", tool, lambda: _run(program, inputs), precision=precision)
    ledger.begin("saved")
    with captured():
        file = io.BytesIO()
        torch.export.save(program, file)
        path.write_bytes(file.getvalue())
        loaded = torch.export.load(path)
    ledger.end(
        "saved", tool, lambda: _run(loaded, inputs), precision=precision, note="loaded again from the file"
    )
    return loaded


def _run(program: torch.export.ExportedProgram, inputs: Sequence[Array]) -> tuple[Array, ...]:
    return run_eager(program.module(), inputs)


def op_counts(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Operator calls by name, without the overload: `conv2d`, `linear`, `batch_norm`."""
    nodes: Any = program.graph_module.graph.nodes
    names = (str(node.target).split(".") for node in nodes if node.op == "call_function")
    return dict(
        sorted(collections.Counter(parts[1] if len(parts) > 1 else parts[0] for parts in names).items())
    )
