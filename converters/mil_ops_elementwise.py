"""Operators that compute every element by itself: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from converters.mil_call import Call, Implementation

GELU_MODES = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
CASTS = {
    "fp16": torch.float32,  # the interpreter rounds to the declared type
    "fp32": torch.float32,
    "int32": torch.int32,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def unary(function: Callable[[Tensor], Tensor]) -> Implementation:
    return lambda call: function(call.tensor("x"))


def binary(function: Callable[[Tensor, Tensor], Tensor]) -> Implementation:
    return lambda call: function(call.tensor("x"), call.tensor("y"))


def scaled(function: Callable[[Tensor, float, float], Tensor]) -> Implementation:
    """An activation with the constants `alpha` and `beta`, of which it may use one."""
    return lambda call: function(call.tensor("x"), call.number("alpha", 0.0), call.number("beta", 0.0))


def shifted(function: Callable[[Tensor], Tensor], epsilon: float) -> Implementation:
    """A function of x + epsilon, with the operator's own default."""
    return lambda call: function(call.tensor("x") + call.number("epsilon", epsilon))


def real_div(call: Call) -> Tensor:
    x, y = call.tensor("x"), call.tensor("y")
    if not (x.is_floating_point() and y.is_floating_point()):
        call.refuse("a quotient of integers")
    return x / y


def gelu(call: Call) -> Tensor:
    x, mode = call.tensor("x"), call.one_of("mode", GELU_MODES, "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def prelu(call: Call) -> Tensor:
    """x (B, C, *D) with one slope per channel."""
    x = call.tensor("x")
    return torch.where(x > 0, x, x * _per_channel(x, call.tensor("alpha")))


def softplus_parametric(call: Call) -> Tensor:
    x = call.tensor("x")
    alpha, beta = (_per_channel(x, call.tensor(name)) for name in ("alpha", "beta"))
    return alpha * _softplus(x * beta)


def _per_channel(x: Tensor, value: Tensor) -> Tensor:
    return value.reshape(-1, *(1,) * (x.ndim - 2))


def _softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0)


def clip(call: Call) -> Tensor:
    return call.tensor("x").clamp(call.number("alpha"), call.number("beta"))


def cast(call: Call) -> Tensor:
    """Towards zero where a fraction is cut off; not zero is true."""
    x, name = call.tensor("x"), call.one_of("dtype", tuple(CASTS))
    if x.is_floating_point() and CASTS[name].is_floating_point:
        return x
    return x.to(CASTS[name])


def select(call: Call) -> Tensor:
    return torch.where(call.tensor("cond").bool(), call.tensor("a"), call.tensor("b"))


def dequantize(call: Call) -> Tensor:
    """(input - zero_point) * scale, along `axis` where they are vectors."""
    x = call.tensor("input")
    scale, zero_point = _quantization(call, x)
    return (x - zero_point) * scale


def quantize(call: Call) -> Tensor:
    x = call.tensor("input")
    scale, zero_point = _quantization(call, x)
    limits = torch.iinfo(CASTS[call.one_of("output_dtype", ("int8", "uint8"))])
    return (torch.round(x / scale) + zero_point).clamp(limits.min, limits.max).to(torch.int32)


def _quantization(call: Call, x: Tensor) -> tuple[Tensor, Tensor | int]:
    shape = [1] * x.ndim
    if "axis" in call.arguments:
        shape[call.integer("axis")] = -1
    scale, zero_point = call.tensor("scale"), call.optional("zero_point")
    vector = scale.ndim == 1
    return (
        scale.reshape(shape) if vector else scale,
        0 if zero_point is None else zero_point.reshape(shape if zero_point.ndim == 1 else ()),
    )


OPS: dict[str, Implementation] = {
    "add": binary(torch.add),
    "sub": binary(torch.sub),
    "mul": binary(torch.mul),
    "real_div": real_div,
    "floor_div": binary(torch.floor_divide),
    "mod": binary(torch.remainder),
    "pow": binary(torch.pow),
    "maximum": binary(torch.maximum),
    "minimum": binary(torch.minimum),
    "equal": binary(torch.eq),
    "not_equal": binary(torch.ne),
    "greater": binary(torch.gt),
    "greater_equal": binary(torch.ge),
    "less": binary(torch.lt),
    "less_equal": binary(torch.le),
    "logical_and": binary(torch.logical_and),
    "logical_or": binary(torch.logical_or),
    "logical_xor": binary(torch.logical_xor),
    "logical_not": unary(torch.logical_not),
    "abs": unary(torch.abs),
    "acos": unary(torch.acos),
    "asin": unary(torch.asin),
    "atan": unary(torch.atan),
    "atanh": unary(torch.atanh),
    "ceil": unary(torch.ceil),
    "cos": unary(torch.cos),
    "cosh": unary(torch.cosh),
    "erf": unary(torch.erf),
    "exp": unary(torch.exp),
    "exp2": unary(torch.exp2),
    "floor": unary(torch.floor),
    "identity": unary(lambda x: x),
    "round": unary(torch.round),
    "sign": unary(torch.sign),
    "sin": unary(torch.sin),
    "sinh": unary(torch.sinh),
    "sqrt": unary(torch.sqrt),
    "square": unary(torch.square),
    "tan": unary(torch.tan),
    "tanh": unary(torch.tanh),
    "inverse": shifted(torch.reciprocal, 1e-4),
    "log": shifted(torch.log, 1e-45),
    "rsqrt": shifted(torch.rsqrt, 1e-12),
    "threshold": scaled(lambda x, alpha, _: x.clamp(min=alpha)),
    "clip": clip,
    "relu": unary(torch.relu),
    "relu6": unary(functional.relu6),
    "sigmoid": unary(torch.sigmoid),
    "silu": unary(functional.silu),
    "softplus": unary(_softplus),
    "softsign": unary(functional.softsign),
    "gelu": gelu,
    "elu": scaled(lambda x, alpha, _: torch.where(x > 0, x, alpha * torch.expm1(x))),
    "leaky_relu": scaled(lambda x, alpha, _: torch.where(x >= 0, x, alpha * x)),
    "thresholded_relu": scaled(lambda x, alpha, _: torch.where(x >= alpha, x, torch.zeros_like(x))),
    "clamped_relu": scaled(lambda x, alpha, beta: torch.where(x >= 0, x, alpha * x).clamp(max=beta)),
    "linear_activation": scaled(lambda x, alpha, beta: alpha * x + beta),
    "scaled_tanh": scaled(lambda x, alpha, beta: alpha * torch.tanh(beta * x)),
    "sigmoid_hard": scaled(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1)),
    "prelu": prelu,
    "softplus_parametric": softplus_parametric,
    "cast": cast,
    "select": select,
    "quantize": quantize,
    "dequantize": dequantize,
}
