"""The operators that a network really runs, and who reads each tensor, recorded from one forward pass.

Whether a BatchNorm may be folded depends on dataflow: the tensor between two layers must have no other
reader. Attribute names cannot tell that, and symbolic tracing refuses many networks; running the network once
tells it for every network that runs. Recording sees each operator call, inside scripted functions too, so a
reader cannot be missed. In inference mode the dispatcher shows whole operators (`linear`, `batch_norm`) and
not their parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Value = int


@dataclass(frozen=True, slots=True)
class Op:
    """One operator call; `arguments` by the schema's names, tensors among them as they were passed.

    `reads` and `writes` number the tensors: a tensor that is changed in place becomes a new value.
    """

    index: int
    name: str
    arguments: Mapping[str, Any]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]


@dataclass(slots=True)
class Trace:
    """A recorded forward pass; `results` are the values that the network returns."""

    ops: list[Op] = field(default_factory=list)
    shapes: dict[Value, tuple[int, ...]] = field(default_factory=dict)
    readers: dict[Value, list[Op]] = field(default_factory=lambda: defaultdict(list))
    producers: dict[Value, Op] = field(default_factory=dict)
    parameters: dict[Value, Tensor] = field(default_factory=dict)
    results: frozenset[Value] = frozenset()
    output: Any = None

    def uses(self, value: Value) -> int:
        """How many operators read a value, the caller of the network counted as one."""
        return len(self.readers.get(value, ())) + (value in self.results)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self._numbers: dict[int, Value] = {}
        # Freed tensors would hand their address, and so their number, to the next one.
        self._alive: list[Tensor] = []
        for tensor in (*net.parameters(), *net.buffers()):
            self.trace.parameters[self.number(tensor)] = tensor

    def number(self, tensor: Tensor) -> Value:
        known = self._numbers.get(id(tensor))
        return self._renumber(tensor) if known is None else known

    def _renumber(self, tensor: Tensor) -> Value:
        value = len(self.trace.shapes)
        self._numbers[id(tensor)] = value
        self._alive.append(tensor)
        self.trace.shapes[value] = tuple(tensor.shape)
        return value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = _bind(func, args, kwargs or {})
        reads = tuple(self.number(tensor) for tensor in _tensors(_values_read(func, arguments)))
        result = func(*args, **(kwargs or {}))
        changed = list(_tensors([arguments[name] for name in _written(func) if name in arguments]))
        for tensor in changed:
            self._renumber(tensor)
        writes = tuple(self.number(tensor) for tensor in _tensors(result))
        # What hands its input on untouched (dropout in eval mode) is no reader of it.
        if changed or any(value not in reads for value in writes):
            self._append(func, arguments, reads, writes)
        return result

    def _append(
        self, func: Any, arguments: dict[str, Any], reads: tuple[Value, ...], writes: tuple[Value, ...]
    ) -> None:
        op = Op(len(self.trace.ops), func.overloadpacket.__name__, arguments, reads, writes)
        self.trace.ops.append(op)
        for value in reads:
            self.trace.readers[value].append(op)
        for value in writes:
            self.trace.producers[value] = op


def record(net: nn.Module, example: Tensor) -> Trace:
    """One forward pass of `net` on `example`, recorded.

    Networks that cache tensors in their forward keep inference tensors afterwards: hand in a copy.
    """
    with torch.inference_mode(), _Recorder(net) as recorder:
        output = net(example)
    trace: Trace = recorder.trace
    trace.output = output
    trace.results = frozenset(recorder.number(tensor) for tensor in _tensors(output))
    return trace


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by name, in the schema's order, so that the main input comes first."""
    schema = func._schema.arguments
    given = {argument.name: value for argument, value in zip(schema, args, strict=False)} | kwargs
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}


def _values_read(func: Any, arguments: Mapping[str, Any]) -> list[Any]:
    """The arguments whose values count: `reshape_as` and its like look at the shape of `other` only."""
    shape_only = func.overloadpacket.__name__ in ("reshape_as", "view_as", "expand_as")
    return [value for name, value in arguments.items() if not (shape_only and name == "other")]


def _written(func: Any) -> Iterator[str]:
    for argument in func._schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield argument.name


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
