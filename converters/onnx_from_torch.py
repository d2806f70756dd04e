"""ONNX: eager network -> reparameterized -> exported -> simplified and checked, parity after each step."""

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
from converters.onnx_exporters import EXPORTERS, Exported
from converters.parity import TOLERANCES
from converters.source import build_source
from models.spec import canonical_json

# Protocol buffers end at 2 GiB; weights beside the file (external data) are not supported.
MAX_BYTES = 2**31 - 2**24


@dataclass(frozen=True, slots=True)
class _Made:
    ledger: Ledger
    proto: onnx.ModelProto
    data: bytes


def convert(request: ConversionRequest, folder: Path, *, on_step: OnStep = ignore_step) -> Artifact:
    """Write `model.onnx` and `tensors.npz` into `folder` and describe them.

    Each exporter has to pass export, simplification, check and parity; the first of EXPORTERS that does is
    used, and the note of its `exported` step says why another was not. The eval-mode exporters and onnxsim
    fold plain conv-BatchNorm pairs also with `fused=False`: that is what a user gets who skips
    reparameterization, and `op_counts` tells which BatchNorms are left.

    Raises ConversionError (`bad_input`, `unsupported`, `export_failed`, `parity_failed`) and ModelError.
    """
    started = time.perf_counter_ns()
    on_step("eager")
    source = build_source(request)
    _check_size(source.net, request)
    ledger = Ledger(source, on_step)
    net, folded = source.net, {}
    if request.fused:
        net, report = fuse(ledger)
        folded = dict(report.folded)
    made = _export(net, ledger, _facts(request))
    path = folder / "model.onnx"
    path.write_bytes(made.data)
    counts = onnx_graph.op_counts(made.proto)
    return assemble(
        request,
        made.ledger,
        path,
        inputs=onnx_graph.tensor_infos(made.proto.graph.input),
        outputs=onnx_graph.tensor_infos(made.proto.graph.output),
        op_counts=counts,
        batchnorms_left=counts.get("BatchNormalization", 0),
        folded=folded,
        started_ns=started,
    )


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
    return {
        "key": cache_key(request),
        "model": canonical_json(request.model.to_dict()),
        "batch_size": str(request.batch_size),
        "precision": request.precision,
        "fused": str(request.fused).lower(),
    }


def _export(net: nn.Module, ledger: Ledger, facts: Mapping[str, str]) -> _Made:
    failures: dict[str, ConversionFailure] = {}
    for name in EXPORTERS:
        try:
            return _export_with(name, net, ledger.fork(), facts=facts, note=_note(name, failures))
        except ConversionError as error:
            failures[name] = error.failure
    raise ConversionError(_all_failed(failures))


def _note(name: str, failures: Mapping[str, ConversionFailure]) -> str:
    tried = "; ".join(f"{other} not used: {failure.message}" for other, failure in failures.items())
    others = ", ".join(other for other in EXPORTERS if other != name)
    return tried or f"first choice; {others} not needed"


def _export_with(name: str, net: nn.Module, ledger: Ledger, *, facts: Mapping[str, str], note: str) -> _Made:
    source = ledger.source
    ledger.begin("exported")
    exported = EXPORTERS[name](net, source.example)
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
    onnx_graph.describe(proto, facts)
    onnx_graph.check(proto)
    data = onnx_graph.serialize(proto)
    ledger.end(
        "simplified",
        f"onnxsim {version('onnxsim')}",
        lambda: onnx_graph.run(data, source.inputs),
        note=f"{len(exported.proto.graph.node)} to {len(proto.graph.node)} nodes",
        diverged=lambda: _first_difference(net, proto, exported, ledger),
    )
    return _Made(ledger, proto, data)


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
