"""What a model file is, read from the file alone, and what it computes: ours and others', by extension.

An engine says nothing without its runtime, and an exported program is read by running code of its maker: it
is loaded only where its user vouches for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.artifact import TensorInfo
from converters.files import sha256_of
from converters.parity import Array
from models.spec import Option

MAX_RECORD_BYTES = 2**24

Outputs = Callable[[Sequence[Array]], tuple[Array, ...]]


class ReadBackError(Exception):
    """What is wrong with a file, in words for its user."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as it was read back. `sha256` of a folder is that of its files' names and sha256.

    `outputs_for` runs the file on this machine, in the precision that it declares, None where that is not
    possible; `tool` says what with.
    """

    path: Path
    kind: str  # "mlpackage", "onnx", "exported_program", "engine"
    sha256: str
    size_bytes: int
    precision: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    op_counts: Mapping[str, int] = field(default_factory=dict)
    batchnorms_left: int | None = None
    compression: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Option] = field(default_factory=dict)
    tool: str = ""
    outputs_for: Outputs | None = None


def kind_of(path: Path) -> str:
    """The kind of a file by its extension. Raises ReadBackError for another one."""
    name = path.name.lower()
    for ending, kind in KINDS.items():
        if name.endswith(ending):
            return kind
    raise ReadBackError(f"{path}: unknown extension; known are {', '.join(KINDS)}")


def read_back(path: Path, *, trusted: str = "") -> FileFacts:
    """The facts of a file. `trusted` is the sha256 of an exported program that its user vouches for.

    Raises ReadBackError for what cannot be read or may not be loaded.
    """
    if not path.exists():
        raise ReadBackError(f"no file at {path}")
    kind = kind_of(path)
    if kind == "exported_program":
        return _exported_program(path, trusted)
    return {"mlpackage": _mlpackage, "onnx": _onnx, "engine": _engine}[kind](path)


KINDS = {
    ".mlpackage": "mlpackage",
    ".mlpackage.zip": "mlpackage",
    ".zip": "mlpackage",
    ".onnx": "onnx",
    ".pt2": "exported_program",
    ".engine": "engine",
    ".plan": "engine",
}


def _mlpackage(path: Path) -> FileFacts:
    from converters.mil_load import PackageError, opened
    from converters.mlpackage_facts import of_package

    try:
        with opened(path) as package:
            found, size = of_package(package), package.size_bytes
            sha256 = sha256_of(path) if path.is_file() else _folder_sha256(path)
    except PackageError as error:
        raise ReadBackError(str(error)) from None

    return FileFacts(
        path,
        "mlpackage",
        sha256,
        size,
        found.precision,
        found.inputs,
        found.outputs,
        found.op_counts,
        len(found.batch_norms),
        found.compressions,
        found.facts(),
        "the interpreter (the program as converted, not Apple's kernels)",
        lambda inputs: _interpreted(path, inputs),
    )


def _interpreted(path: Path, inputs: Sequence[Array]) -> tuple[Array, ...]:
    from converters.mil_call import UnsupportedOpError
    from converters.mil_interpreter import run
    from converters.mil_load import PackageError

    try:
        return run(path, inputs, rounding=True)
    except (PackageError, UnsupportedOpError) as error:
        raise ReadBackError(str(error)) from error


def _folder_sha256(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        state.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return state.hexdigest()


def _onnx(path: Path) -> FileFacts:
    from importlib.metadata import version

    from converters import onnx_graph, onnx_types
    from converters.foreign_onnx import ForeignOnnxError, load

    try:
        proto = load(path)
        report = onnx_types.read(proto)
    except ForeignOnnxError as error:
        raise ReadBackError(str(error)) from None
    except Exception as error:  # shapes and types of a foreign graph may be anything
        raise ReadBackError(f"{path} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error
    weights = {weight.name for weight in proto.graph.initializer}
    inputs = onnx_graph.tensor_infos(value for value in proto.graph.input if value.name not in weights)
    counts = onnx_graph.op_counts(proto)
    opsets = {f"opset_{entry.domain or 'onnx'}": entry.version for entry in proto.opset_import}
    quantized = {"DequantizeLinear": count} if (count := counts.get("DequantizeLinear", 0)) else {}

    def outputs(values: Sequence[Array]) -> tuple[Array, ...]:
        from converters.onnx_precision import run_typed

        if len(inputs) != 1:
            raise ReadBackError(f"{path} has {len(inputs)} inputs; one is expected")
        kind = inputs[0].dtype
        try:
            if kind == "float32":
                return run_typed(proto, report.precision, values)
            typed = [value.astype(kind) for value in values]
            found = onnx_graph.run(onnx_graph.serialize(proto), typed)
        except Exception as error:  # a runtime refuses a foreign graph in its own types
            raise ReadBackError(
                f"{path} cannot be run: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        return tuple(np.asarray(value, np.float32) for value in found)

    return FileFacts(
        path,
        "onnx",
        sha256_of(path),
        path.stat().st_size,
        report.precision,
        inputs,
        onnx_graph.tensor_infos(proto.graph.output),
        counts,
        counts.get("BatchNormalization", 0),
        quantized,
        {**opsets, **report.facts()},
        f"onnxruntime {version('onnxruntime')}, CPU",
        outputs,
    )


def _exported_program(path: Path, trusted: str) -> FileFacts:
    sha256 = sha256_of(path)
    if trusted != sha256:
        given = f"--trust {trusted[:64]} names another file; " if trusted else ""
        raise ReadBackError(
            f"{path}: {given}an exported program can run Python code while torch.export.load reads it (it"
            " evaluates expressions from the file and may unpickle objects). Where you made this file"
            f" yourself, say so: --trust {sha256}"
        )
    import torch

    from converters.exported_program_from_torch import op_counts
    from converters.quiet import captured
    from converters.source import run_eager

    try:
        with captured():
            program = torch.export.load(path)
    except Exception as error:  # the loader raises anything at what is no exported program
        raise ReadBackError(f"{path} cannot be loaded: {type(error).__name__}: {str(error)[:300]}") from error
    counts = op_counts(program)
    precisions = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    kinds = [precisions[p.dtype] for p in program.parameters() if p.dtype in precisions]
    return FileFacts(
        path,
        "exported_program",
        sha256,
        path.stat().st_size,
        max(set(kinds), key=kinds.count, default="fp32"),
        _values_of(program, program.graph_signature.user_inputs),
        _values_of(program, program.graph_signature.user_outputs),
        counts,
        batchnorms_left=counts.get("batch_norm", 0),
        tool=f"torch {torch.__version__}, CPU",
        outputs_for=lambda inputs: run_eager(program.module(), inputs),
    )


def _values_of(program: Any, names: Sequence[Any]) -> tuple[TensorInfo, ...]:
    """Inputs or outputs of an exported program; an open side is -1."""
    values = {node.name: node.meta.get("val") for node in program.graph_module.graph.nodes}
    found = []
    for name in names:
        value = values.get(name)
        if value is not None and hasattr(value, "shape"):
            sides = tuple(side if isinstance(side, int) else -1 for side in value.shape)
            found.append(TensorInfo(name, str(value.dtype).removeprefix("torch."), sides))
    return tuple(found)


def _engine(path: Path) -> FileFacts:
    """What the file tells without its runtime: its bytes; and what `convert` wrote down beside it."""
    found = FileFacts(path, "engine", sha256_of(path), path.stat().st_size)
    record = _record(path.with_suffix(".json"))
    if not record:
        return found
    if record.get("sha256") != found.sha256:
        return replace(found, facts={"record": f"{path.stem}.json describes another file"})
    told = record.get("facts")
    facts = told if isinstance(told, dict) else {}
    return replace(
        found,
        precision=str(record.get("precision", "")),
        facts={
            "record": f"{path.stem}.json, written when this file was made",
            **{str(name): value for name, value in facts.items() if isinstance(value, int | float | str)},
        },
    )


def _record(path: Path) -> dict[str, Any]:
    """The JSON that `convert` writes beside a file; empty where there is none."""
    if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and value.get("kind") == "engine" else {}
