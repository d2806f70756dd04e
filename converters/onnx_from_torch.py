"""ONNX: eager network -> reparameterized -> exported -> simplified and checked -> in the precision asked for.

Parity with the eager fp32 network is checked after each step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx
from torch import nn

from converters import onnx_graph
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.divergence import first_divergence, module_outputs
from converters.keys import OPSET, cache_key
from converters.ledger import Ledger, OnStep, assemble, fuse, ignore_step
from converters.onnx_batch import check_other_batch
from converters.onnx_exporters import EXPORTERS, Exported
from converters.onnx_precision import run_typed, typed
from converters.parity import TOLERANCES
from converters.source import build_source
from models.spec import canonical_json, forms_left_out

# Protocol buffers end at 2 GiB; weights beside the file (external data) are not supported.
MAX_BYTES = 2**31 - 2**24


@dataclass(frozen=True, slots=True)
class _Made:
    ledger: Ledger
    proto: onnx.ModelProto


def convert(request: ConversionRequest, folder: Path, *, on_step: OnStep = ignore_step) -> Artifact:
    """Write `model.onnx` and `tensors.npz` into `folder` and describe them.

    Each exporter has to pass export, simplification, check and parity; the first of EXPORTERS that does is
    used, and the note of its `exported` step says why another was not. The eval-mode exporters and onnxsim
    fold plain conv-BatchNorm pairs also with `fused=False`: that is what a user gets who skips
    reparameterization, and `op_counts` tells which BatchNorms are left.

    The build option `dynamic_batch` leaves the batch size open, written as -1 in `Artifact.inputs`; parity is
    then checked at another batch size too. Input and output are fp32 in every precision.

    Raises ConversionError (`bad_input`, `unsupported`, `export_failed`, `parity_failed` and
    `precision_mismatch`) and ModelError.
    """
    started = time.perf_counter_ns()
    on_step("eager")
    source = build_source(request)
    _check_size(source.net, request)
    ledger = Ledger(source, on_step)
    net, folded = source.net, {}
    if request.fused:
        net, report = fuse(ledger, left_out=forms_left_out(request.build))
        folded = dict(report.folded)
    made = _export(net, ledger, request)
    ledger = made.ledger
    final = typed(made.proto, request, ledger)
    if _is_dynamic(request) and request.precision != "fp32":
        check_other_batch(request, ledger, lambda inputs: run_typed(final.proto, request.precision, inputs))
    onnx_graph.describe(final.proto, {**_facts(request), "computes": final.computes})
    path = folder / "model.onnx"
    path.write_bytes(onnx_graph.serialize(final.proto))
    counts = onnx_graph.op_counts(final.proto)
    artifact = assemble(
        request,
        ledger,
        path,
        inputs=onnx_graph.tensor_infos(final.proto.graph.input),
        outputs=onnx_graph.tensor_infos(final.proto.graph.output),
        op_counts=counts,
        batchnorms_left=counts.get("BatchNormalization", 0),
        folded=folded,
        started_ns=started,
    )
    return replace(artifact, facts={**artifact.facts, **final.facts})


def _is_dynamic(request: ConversionRequest) -> bool:
    return bool(dict(request.build).get("dynamic_batch", False))


def _check_size(net: nn.Module, request: ConversionRequest) -> None:
    size = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
    if size > MAX_BYTES:
        raise ConversionError(
            ConversionFailure(
                "unsupported",
                "exported",
                f"{request.model.name} has {size / 1e9:.2f} GB of weights; an ONNX file holds at most 2.1 GB",
                advice="Measure it with a torch backend: an exported program has no such limit.",
            )
        )


def _facts(request: ConversionRequest) -> dict[str, str]:
    left_out = forms_left_out(request.build)
    return {
        "key": cache_key(request),
        "model": canonical_json(request.model.to_dict()),
        "batch_size": str(request.batch_size),
        "precision": request.precision,
        "fused": str(request.fused).lower(),
        **({"left_out": ", ".join(left_out)} if left_out else {}),
    }


def _export(net: nn.Module, ledger: Ledger, request: ConversionRequest) -> _Made:
    failures: dict[str, ConversionFailure] = {}
    for name in EXPORTERS:
        try:
            return _export_with(name, net, ledger.fork(), request=request, note=_note(name, failures))
        except ConversionError as error:
            failures[name] = error.failure
    raise ConversionError(_all_failed(failures))


def _note(name: str, failures: Mapping[str, ConversionFailure]) -> str:
    tried = "; ".join(f"{other} not used: {failure.message}" for other, failure in failures.items())
    others = ", ".join(other for other in EXPORTERS if other != name)
    return tried or f"first choice; {others} not needed"


def _export_with(
    name: str, net: nn.Module, ledger: Ledger, *, request: ConversionRequest, note: str
) -> _Made:
    source, dynamic = ledger.source, _is_dynamic(request)
    ledger.begin("exported")
    exported = EXPORTERS[name](net, source.example, **({"dynamic_batch": True} if dynamic else {}))
    data = onnx_graph.serialize(exported.proto)
    ledger.end(
        "exported",
        f"{exported.tool} opset {OPSET}",
        lambda: onnx_graph.run(data, source.inputs),
        note=note,
        diverged=lambda: _first_difference(net, exported.proto, exported, ledger),
    )
    ledger.begin("simplified")
    proto = onnx_graph.simplify(exported.proto)
    onnx_graph.describe(proto, {})
    onnx_graph.check(proto)
    data = onnx_graph.serialize(proto)
    ledger.end(
        "simplified",
        f"onnxsim {version('onnxsim')}",
        lambda: onnx_graph.run(data, source.inputs),
        note=f"{len(exported.proto.graph.node)} to {len(proto.graph.node)} nodes",
        diverged=lambda: _first_difference(net, proto, exported, ledger),
    )
    if dynamic:
        onnx_graph.check_open_batch(proto, request.model.name)
        check_other_batch(request, ledger, lambda inputs: onnx_graph.run(data, inputs))
    return _Made(ledger, proto)


def _first_difference(net: nn.Module, proto: onnx.ModelProto, exported: Exported, ledger: Ledger) -> str:
    example = ledger.source.inputs[0]
    computed = onnx_graph.module_outputs(proto, exported.scopes, example)
    return first_divergence(module_outputs(net, example), computed, TOLERANCES["fp32"])


def _all_failed(failures: Mapping[str, ConversionFailure]) -> ConversionFailure:
    """One failure that quotes every exporter, with the place as the most telling of them gives it."""
    best = max(failures.values(), key=_telling)
    message = "; ".join(f"{name}: {failure.message}" for name, failure in failures.items())
    return replace(best, message=f"no exporter gave a correct file. {message}")


def _telling(failure: ConversionFailure) -> tuple[bool, ...]:
    return (
        failure.kind == "out_of_memory",
        bool(failure.module),
        bool(failure.operator),
        bool(failure.source_line),
    )
