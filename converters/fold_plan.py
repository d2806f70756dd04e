"""Which BatchNorms and layer scales can be folded into which layers, read off a recorded forward pass.

A fold is planned only where it is exact: the tensors between the two have one reader, every weight involved
is used once and belongs to one module, and only data movement or averaging stands between them.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from converters.axes import axis_after, axis_before, main_input
from converters.dataflow import Op, Trace, Value
from models.folding import BatchNorm, Convolution

AnyBatchNorm = nn.modules.batchnorm._BatchNorm
CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))


@dataclass(frozen=True, slots=True)
class Fold:
    """`factor` (a BatchNorm, or the module that holds a layer scale as `attribute`) goes into `layers`.

    `forward` is true where the layers come after it.
    """

    factor: str
    layers: tuple[str, ...]
    attribute: str = ""
    forward: bool = False


@dataclass(slots=True)
class Plan:
    """The folds in execution order; `reasons` says for every factor that stays why it does."""

    folds: list[Fold] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


class _Stays(Exception):
    """Why a factor cannot be folded."""


def plan(net: nn.Module, trace: Trace) -> Plan:
    """Every exact fold of `net`; its names hold for any copy of it."""
    return _Planner(net, trace).run()


def plan_sequences(net: nn.Module) -> list[Fold]:
    """Convolution and BatchNorm that follow each other in a plain `nn.Sequential`: known without running."""
    names = Counter(id(module) for _, module in net.named_modules(remove_duplicate=False))
    folds = []
    for name, module in net.named_modules():
        if type(module).forward is not nn.Sequential.forward:
            continue
        for (before, conv), (after, norm) in itertools.pairwise(module.named_children()):
            single = names[id(conv)] == names[id(norm)] == 1
            if single and isinstance(conv, Convolution) and _foldable(norm):
                folds.append(Fold(f"{name}.{after}".lstrip("."), (f"{name}.{before}".lstrip("."),)))
    return folds


def _foldable(norm: nn.Module) -> bool:
    known = isinstance(norm, AnyBatchNorm) and has_known_forward(norm)
    return known and bool(norm.affine) and bool(norm.track_running_stats)


class _Planner:
    def __init__(self, net: nn.Module, trace: Trace) -> None:
        self.trace = trace
        self.modules = dict(net.named_modules())
        self.owners = _owners(net)
        self.norms = {name: m for name, m in net.named_modules() if isinstance(m, AnyBatchNorm)}
        self.folded: set[int] = set()  # operators that will be gone, so they are looked through
        self.plan = Plan()

    def run(self) -> Plan:
        seen: set[str] = set()
        for op in self.trace.ops:
            if op.name == "batch_norm":
                seen.add(self._norm(op))
            elif op.name in ("mul", "mul_"):
                self._scale(op)
        for name in self.norms.keys() - seen:
            self.plan.reasons[name] = "it is not run"
        return self.plan

    def _norm(self, op: Op) -> str:
        name = ""
        try:
            name = self._owner(op.arguments["running_mean"], "running_mean")
            if name not in self.norms:
                raise _Stays("its statistics belong to no BatchNorm module")
            self._check_norm(op, name)
            self._plan_norm(op, name)
        except _Stays as reason:
            self.plan.reasons[name or f"batch_norm operator {op.index}"] = str(reason)
        return name

    def _plan_norm(self, op: Op, name: str) -> None:
        try:
            layer = self._layer_before(main_input(op), axis=1)
            self.plan.folds.append(Fold(name, (layer,)))
        except _Stays as before:
            try:
                layers = tuple(self._layers_after(op.writes[0], axis=1))
            except _Stays as after:
                raise _Stays(f"{before}; {after}") from None
            self.plan.folds.append(Fold(name, layers, forward=True))
        self.folded.add(op.index)

    def _check_norm(self, op: Op, name: str) -> None:
        if not has_known_forward(self.norms[name]):
            raise _Stays(f"what {type(self.norms[name]).__name__} computes besides is unknown")
        if self.norms[name].weight is None:
            raise _Stays("it has no affine parameters")
        if op.arguments["training"]:
            raise _Stays("it uses the statistics of its batch")
        for attribute in ("weight", "bias", "running_var"):
            if self._owner(op.arguments[attribute], attribute) != name:
                raise _Stays("its parameters belong to another module")

    def _scale(self, op: Op) -> None:
        """Multiplication by a parameter with one value per channel."""
        for gamma, value in ((op.reads[-1], op.reads[0]), (op.reads[0], op.reads[-1])):
            source = self._parameter_behind(gamma)
            if source is None or len(op.reads) != 2 or max(self.trace.shapes[gamma], default=1) == 1:
                continue
            name, attribute = source
            try:
                layer = self._layer_before(value, axis=self._scaled_axis(gamma, value))
                self.plan.folds.append(Fold(name, (layer,), attribute))
                self.folded.add(op.index)
            except _Stays as reason:
                self.plan.reasons[f"{name}.{attribute}".lstrip(".")] = str(reason)
            return

    def _parameter_behind(self, value: Value) -> tuple[str, str] | None:
        """The module and attribute of the parameter that a value is a mere reshaping of."""
        while value not in self.trace.parameters:
            op = self.trace.producers.get(value)
            if (
                op is None
                or len(op.reads) != 1
                or axis_before(self.trace, op, self._long_axis(value)) is None
            ):
                return None
            value = main_input(op)
        tensor = self.trace.parameters[value]
        places = self.owners.get(id(tensor), [])
        single = len(places) == 1 and self.trace.uses(value) == 1
        return places[0] if single and isinstance(tensor, nn.Parameter) else None

    def _long_axis(self, value: Value) -> int:
        shape = self.trace.shapes[value]
        return max(range(len(shape)), key=lambda axis: shape[axis], default=0)

    def _scaled_axis(self, gamma: Value, value: Value) -> int:
        scales, shape = self.trace.shapes[gamma], self.trace.shapes[value]
        count = max(scales, default=1)
        axis = len(shape) - len(scales) + self._long_axis(gamma)
        if sum(size != 1 for size in scales) > 1 or not 0 <= axis < len(shape) or shape[axis] != count:
            raise _Stays("it has not one value per channel")
        return axis

    def _layer_before(self, value: Value, *, axis: int) -> str:
        while True:
            self._check_single_use(value)
            op = self.trace.producers.get(value)
            if op is None:
                raise _Stays("nothing computes its input")
            if op.index not in self.folded:
                layer = self._layer(op, value)
                if layer is not None:
                    if axis != self._channel_axis(op, value):
                        raise _Stays(f"it does not act on the output channels of {layer}")
                    return layer
                before = axis_before(self.trace, op, axis)
                if before is None:
                    raise _Stays(f"its input comes from {op.name}")
                axis = before
            value = self._through(op)

    def _through(self, op: Op) -> Value:
        """The data input of an operator that is looked through: of `gamma * x` it is x."""
        if op.name in ("mul", "mul_") and self._parameter_behind(op.reads[0]) is not None:
            return op.reads[-1]
        return main_input(op)

    def _layers_after(self, value: Value, *, axis: int) -> Iterator[str]:
        if value in self.trace.results:
            raise _Stays("the network returns its output")
        readers = self.trace.readers.get(value, [])
        if not readers:
            raise _Stays("nothing reads its output")
        for op in readers:
            yield from self._layers_reading(op, value, axis=axis)

    def _layers_reading(self, op: Op, value: Value, *, axis: int) -> Iterator[str]:
        if main_input(op) != value or op.reads.count(value) != 1:
            raise _Stays(f"{op.name} reads its output")
        layer = self._layer(op, op.writes[0])
        if layer is not None:
            if axis != self._channel_axis(op, value):
                raise _Stays(f"it does not act on the input channels of {layer}")
            if _reads_zeros(op):
                raise _Stays(f"{layer} pads with zeros, which it would have shifted")
            yield layer
            return
        after = axis_after(self.trace, op, axis)
        if after is None:
            raise _Stays(f"{op.name} reads its output")
        yield from self._layers_after(op.writes[0], axis=after)

    def _layer(self, op: Op, value: Value) -> str | None:
        """The module whose own weight a convolution or linear operator uses; None for other operators."""
        if op.name != "linear" and op.name not in CONVOLUTIONS:
            return None
        name = self._owner(op.arguments["weight"], "weight")
        bias = op.arguments["bias"]
        if bias is not None and self._owner(bias, "bias") != name:
            raise _Stays(f"the bias after {name}.weight belongs to another module")
        if not isinstance(self.modules[name], (*Convolution, nn.Linear)):
            raise _Stays(f"{name} is a {type(self.modules[name]).__name__}, no convolution or linear layer")
        return name

    def _channel_axis(self, op: Op, value: Value) -> int:
        after = 0 if op.name == "linear" else _spatial(op)
        return len(self.trace.shapes[value]) - after - 1

    def _check_single_use(self, value: Value) -> None:
        uses = self.trace.uses(value)
        if uses > 1:
            readers = sorted({op.name for op in self.trace.readers[value]})
            raise _Stays(f"the tensor before it has {uses} readers ({', '.join(readers)})")

    def _owner(self, tensor: Tensor | None, attribute: str) -> str:
        """The one module that holds a tensor under that name, where nothing else uses the tensor."""
        if tensor is None:
            raise _Stays(f"it keeps no {attribute}")
        places = self.owners.get(id(tensor), [])
        if not places:
            raise _Stays(f"its {attribute} is computed in the forward pass")
        if len(places) > 1 or places[0][1] != attribute:
            raise _Stays(
                f"its {attribute} is shared: {', '.join('.'.join(place).lstrip('.') for place in places)}"
            )
        times = self._times_used(tensor)
        if times > 1:
            raise _Stays(f"{'.'.join(places[0]).lstrip('.')} is used {times} times")
        return places[0][0]

    def _times_used(self, tensor: Tensor) -> int:
        value = next(number for number, known in self.trace.parameters.items() if known is tensor)
        return self.trace.uses(value)


def has_known_forward(norm: nn.Module) -> bool:
    """Whether a BatchNorm module is its operator alone, or that and then its `drop` and `act` (timm)."""
    plain = type(norm).forward in {kind.forward for kind in (*BatchNorm, nn.SyncBatchNorm)}
    return plain or isinstance(getattr(norm, "act", None), nn.Module)


def _reads_zeros(op: Op) -> bool:
    padding = op.arguments.get("padding", 0)
    return padding == "same" or (padding != "valid" and any(padding)) if op.name in CONVOLUTIONS else False


def _spatial(op: Op) -> int:
    return int(op.name.removeprefix("conv")[0])


def _owners(net: nn.Module) -> dict[int, list[tuple[str, str]]]:
    """Every place (module, attribute) of every parameter and buffer; a shared module counts at each name."""
    places: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for name, module in net.named_modules(remove_duplicate=False):
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                places[id(tensor)].append((name, attribute))
    return places
