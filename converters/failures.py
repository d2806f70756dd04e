"""From an exception in a toolchain to a failure that says which operator, in which module, on which line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from torch import fx, nn

from converters.artifact import ConversionError, ConversionFailure, Step
from models.errors import FoldingError

_OPERATORS = (
    re.compile(r"operator '(\w+::[\w.]+)'"),
    re.compile(r"OpOverload\(op='([\w.]+)'"),
    re.compile(r"\b(aten[.:]{1,2}\w+)"),
)
_SCRIPTED = r"{operator}\(.*scope: (?P<scope>\S+)(?: # (?P<source>\S+))?"
_MEMORY = (
    *("DefaultCPUAllocator", "CUDA out of memory", "std::bad_alloc"),
    *("bad allocation", "Failed to allocate memory"),  # ONNX Runtime
)


def failure_of(
    error: BaseException,
    step: str,
    *,
    net: nn.Module | None = None,
    printed: str = "",
    steps: tuple[Step, ...] = (),
) -> ConversionFailure:
    """The failure for whatever a toolchain raised at `step`.

    `printed` is what the toolchain wrote meanwhile: TorchScript names the module and the line only there.
    """
    if isinstance(error, ConversionError):
        return error.failure
    text = "\n".join(str(cause) for cause in _causes(error))
    if isinstance(error, MemoryError) or any(sign in text for sign in _MEMORY):
        return ConversionFailure("out_of_memory", step, first_line(text), advice=_SMALLER, steps=steps)
    operator = _operator(text)
    module, source = _place(error, net)
    if operator and not module:
        module, source = _scripted_place(printed, operator, names=_names(net), source=source)
    kind = "unsupported" if isinstance(error, FoldingError) else "export_failed"
    message = f"{type(error).__name__}: {first_line(text)}"
    return ConversionFailure(kind, step, message, operator, module, source, _advice(operator), steps)


_SMALLER = "Use a smaller batch size or resolution, or fewer conversions at a time."


def first_line(text: str) -> str:
    """The first line that says something, without terminal colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return next((line.strip() for line in plain.splitlines() if line.strip()), "no message")[:500]


def _advice(operator: str) -> str:
    if operator:
        return f"Express {operator} with operators that ONNX has, or measure this model with a torch backend."
    return "Make the forward pass independent of tensor values, or measure this model with a torch backend."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The innermost cause first: it says what went wrong, the outer ones where."""
    cause = error.__cause__ or error.__context__
    if cause is not None and cause is not error:
        yield from _causes(cause)
    yield error


def _operator(text: str) -> str:
    for pattern in _OPERATORS:
        found = pattern.search(text)
        if found:
            return found.group(1)
    return ""


def _place(error: BaseException, net: nn.Module | None) -> tuple[str, str]:
    """Module and line of the innermost frame that runs a module of `net`, or of the node being translated."""
    names = {id(module): name for name, module in _names(net).items()}
    module = source = ""
    for cause in _causes(error):
        for frame, line in traceback.walk_tb(cause.__traceback__):
            owner = frame.f_locals.get("self")
            if id(owner) in names and isinstance(owner, nn.Module):
                module = names[id(owner)] or type(owner).__name__
                source = source if _is_torch(frame) else f"{frame.f_code.co_filename}:{line}"
            node = frame.f_locals.get("node")
            if isinstance(node, fx.Node) and node.meta.get("nn_module_stack"):
                return node_place(node)
        if module:
            break
    return module, source


def _is_torch(frame: FrameType) -> bool:
    return "torch" in Path(frame.f_code.co_filename).parts


def node_place(node: fx.Node) -> tuple[str, str]:
    """Module path and source line of what an exported graph's node was made from, where it tells."""
    stack: Any = node.meta["nn_module_stack"]
    name = next(reversed(list(stack.values())))[0]
    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{file}:{line}" for file, line in lines if "torch" not in Path(file).parts]
    return str(name), own[-1] if own else ""


def _scripted_place(
    printed: str, operator: str, *, names: Mapping[str, nn.Module], source: str
) -> tuple[str, str]:
    """Module and line from the graph that TorchScript prints: `scope: Net::/Block::stem # file.py:7:0`."""
    found = re.search(_SCRIPTED.format(operator=re.escape(operator)), printed)
    if found is None:
        return "", source
    path = [part.rpartition("::")[2] for part in found["scope"].split("/")]
    return module_at([part for part in path if part], names), (found["source"] or source).removesuffix(":0")


def module_at(path: Iterable[str], names: Container[str]) -> str:
    """The module at a path whose parts may repeat their container: `stem/stem.0/conv` is `stem.0.conv`."""
    current = ""
    for part in path:
        above = current
        while f"{above}.{part}".lstrip(".") not in names and above:
            above = above.rpartition(".")[0]
        candidate = f"{above}.{part}".lstrip(".")
        current = candidate if candidate in names else current
    return current


def _names(net: nn.Module | None) -> Mapping[str, nn.Module]:
    return dict(net.named_modules()) if net is not None else {}
