"""From what coremltools raises to a failure that names the operator, its module and its source line."""

from __future__ import annotations

import re
import traceback
from dataclasses import replace
from typing import Any

from torch import fx
from torch.export import ExportedProgram

from converters.artifact import ConversionFailure
from converters.failures import failure_of, node_place

_RANK = re.compile(
    r'rank <= 5\. Layer "(?P<name>[^"]+)", with type "(?P<kind>\w+)", outputs a (?P<rank>rank \d+)'
)
_UNSUPPORTED = re.compile(r"Unsupported fx node (?P<name>[\w.]+), kind (?P<kind>[\w.]+)")

_ADVICE = {
    "rank": "Core ML's tensors have five axes at most: give the module a form in mlpackage_layout.py.",
    "operator": "Express {operator} with operators that Core ML has, or use another backend.",
    "": "Use another backend, or give the module a form in mlpackage_layout.py.",
}


def conversion_failure(error: BaseException, step: str, program: ExportedProgram) -> ConversionFailure:
    """The failure for whatever coremltools raised while it converted `program`."""
    text = str(error)
    found = _RANK.search(text) or _UNSUPPORTED.search(text)
    name, kind = (found["name"], found["kind"]) if found else _in_conversion(error)
    node = fx_node(program, name)
    failure = failure_of(error, step)
    if failure.kind == "out_of_memory":
        return failure
    module, source = node_place(node) if node is not None and node.meta.get("nn_module_stack") else ("", "")
    operator = str(node.target).removesuffix(".default") if node is not None else kind
    reason = "rank" if found and found.re is _RANK else "operator" if operator else ""
    return replace(
        failure,
        kind="unsupported" if found else "export_failed",
        operator=operator,
        module=module,
        source_line=source,
        advice=_ADVICE[reason].format(operator=operator),
    )


def _in_conversion(error: BaseException) -> tuple[str, str]:
    """Name and kind of the node that coremltools was at, from its own frames."""
    name = kind = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node: Any = frame.f_locals.get("node")
        if isinstance(getattr(node, "kind", None), str) and isinstance(getattr(node, "name", None), str):
            name, kind = node.name, node.kind
    return name, kind


def fx_node(program: ExportedProgram, output: str) -> fx.Node | None:
    """The exported graph's node that an operator was made from: coremltools adds to its name."""
    names: dict[str, fx.Node] = {node.name: node for node in program.graph_module.graph.nodes}
    while output and output not in names:
        output = output.rpartition("_")[0]
    return names.get(output)
