"""The network that an engine is built from: an ONNX file, parsed into a strongly typed one."""

from __future__ import annotations

from typing import Any

from converters.artifact import ConversionError, ConversionFailure
from converters.engine_log import BuilderLog, plain

_FIX = "Change what {operator} is given or express it otherwise, or measure this model with another backend."


def parse(trt: Any, builder: Any, logger: Any, *, data: bytes) -> tuple[Any, Any]:
    """The network and the parser, which has to live as long: it owns the weights.

    Raises ConversionError naming operator, node and module, with the parser's own words.
    """
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        raise ConversionError(_refusal([parser.get_error(k) for k in range(parser.num_errors)]))
    if not network.num_inputs or not network.num_outputs:
        message = f"the parser found {network.num_inputs} inputs and {network.num_outputs} outputs"
        raise ConversionError(ConversionFailure("export_failed", "parsed", message))
    return network, parser


def _refusal(errors: list[Any]) -> ConversionFailure:
    """The first error that names a node tells most; how many there are is told too."""
    if not errors:
        return ConversionFailure("export_failed", "parsed", "the parser refused the file without a reason")
    first = next((error for error in errors if error.node_name()), errors[0])
    code = str(first.code()).rpartition(".")[2]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    operator, node = first.node_operator(), first.node_name()
    where = f"{operator} '{node}': " if operator else ""
    return ConversionFailure(
        "unsupported" if operator else "export_failed",
        "parsed",
        f"TensorRT's parser, {code}: {where}{plain(first.desc())}"[:500] + more,
        operator=operator,
        module=module_of(node),
        advice=_FIX.format(operator=operator) if operator else "Make the ONNX file again.",
    )


def build_failure(log: BuilderLog, data: bytes) -> ConversionFailure:
    """Why the builder gave no engine, in its own words, with the node that it names."""
    message = log.first_error()[:500] or "the builder gave no engine and no reason"
    if log.out_of_memory():
        advice = "Use a smaller batch size or resolution, a smaller workspace_mib, or fewer workers."
        return ConversionFailure("out_of_memory", "engine", message, advice=advice)
    node = log.failed_operation()
    return ConversionFailure(
        "unsupported" if node else "export_failed",
        "engine",
        message,
        operator=_operator_of(node, data),
        module=module_of(node),
        advice="Ask for another target or precision: what is supported differs between GPUs." if node else "",
    )


def _operator_of(node: str, data: bytes) -> str:
    """The operator of the ONNX node with that name; the builder may have appended a number to it."""
    if not node:
        return ""
    import onnx

    found = {entry.name: entry.op_type for entry in onnx.load_from_string(data).graph.node}
    operator: str = found.get(node) or found.get(node.rpartition("_")[0], "")
    return operator


def module_of(node: str) -> str:
    """The module that a node's name tells: `/stem/stem.0/conv/Conv` is in `stem.0.conv`.

    Empty where names are not paths: only the TorchScript exporter writes them like that.
    """
    *path, _ = node.strip("/").split("/")
    parts: list[str] = []
    for part in path:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part  # a container's child repeats the container's name
        else:
            parts.append(part)
    return ".".join(parts)
