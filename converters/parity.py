"""How far a converted model's outputs are from the eager fp32 model's, and from how far it is a failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from converters.artifact import NO_COSINE, Parity
from models.spec import ModelSpec

Array = npt.NDArray[np.float32]

# Largest difference allowed, relative to the largest output. Measured with randomized BatchNorm statistics:
# fp32 typical 4e-7 (Next-ViT-S exported 4e-7, fused 3e-7; MobileNetV2, 52 BatchNorms deep, 3e-6), and a wrong
# fold or export is off by 1e-2 or more, so 1e-4 separates the two. bf16 has 16 bits less of mantissa: single
# blocks 4e-3 to 9e-3, Next-ViT-S 2e-2, ResNet-50 and MobileNetV2 9e-2 (random weights, torch 2.14 on an
# AVX-512 CPU); what was folded has passed the fp32 check before it is cast.
# fp16 rounds 8 times less than bf16 and has a small range: blocks 5e-4 to 2e-3, Next-ViT-S 4e-3,
# MobileNetV2-140 1.3e-2, ResNet-50 2.8e-2; a graph that overflows is not finite, or off by about 1. int8,
# compared on 16 inputs other than those that it is quantized on: blocks 1e-2 to 0.1, networks 0.04 to 0.4,
# PoolFormer-S24 0.59 (2-core AMD EPYC VM, 2026-11-22). With compressed weights the reference is the network
# with those weights, so what is left is fp16.
TOLERANCES = {
    "fp32": 1e-4,
    "bf16": 0.25,
    "fp16": 0.1,
    "int8": 1.0,
    "fp16-int8w": 0.1,
    "fp16-pal8": 0.1,
    "fp16-pal6": 0.1,
    "fp16-pal4": 0.1,
    "fp16-sparse50": 0.1,
}

# int8 outputs must point where the reference does: PoolFormer-S24 0.81 to 0.93, the others 0.95 or more.
# That is a weak bar: with random weights, outputs for different inputs of one network are alike too
# (ResNet-50: cosine 0.97), and in the deepest rounding drowns the input. So each node is held to a bar of
# its own: alone, on the fp32 graph's values, 8 bits are 1 to 4 % off, 10 % at worst; a wrong scale, axis or
# weight is off by half.
LEAST_COSINES = {"int8": 0.75}
NODE_TOLERANCE = 0.25

# Some networks amplify rounding: with random weights the eager fp32 ResNet-101 is 8e-5 off its own float64
# outputs, LeViT-128S 5e-4. No fp32 runtime can be held to less than that, so the tolerance of such a network
# is this many times its own error, measured, and never more than WIDEST.
ROUNDING_FACTOR = 8
WIDEST = 1e-2

# fp16 has 13 bits less of mantissa, so such a network amplifies that much more: the same ResNet-101, each
# result rounded to fp16, is 0.11 off. No network is allowed more than this; a wrong operator is off by 1.
FP16_COARSER, FP16_WIDEST = 2**13, 0.25


def make_inputs(
    spec: ModelSpec, batch_size: int, *, seed: int, count: int, first: int = 0
) -> tuple[Array, ...]:
    """Inputs `first` to `first + count - 1` (B, C, H, W) of standard normal values.

    Input k depends on `seed` and k alone.
    """
    shape = spec.input_shape(batch_size)
    return tuple(
        np.random.default_rng((seed, index)).standard_normal(shape, dtype=np.float32)
        for index in range(first, first + count)
    )


def compare(
    reference: Sequence[Array],
    outputs: Sequence[Array],
    tolerance: float,
    *,
    least_cosine: float = NO_COSINE,
) -> Parity:
    """The worst of all inputs. NaN anywhere makes `max_relative` NaN, which fails.

    Raises ValueError where counts or shapes differ.
    """
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(outputs)} outputs against {len(reference)} reference outputs")
    pairs = [_pair(ours, theirs) for ours, theirs in zip(outputs, reference, strict=True)]
    with np.errstate(invalid="ignore"):  # infinities are a result here, and fail
        return Parity(
            max_absolute=float(np.max([np.abs(ours - theirs).max() for ours, theirs in pairs])),
            max_relative=float(np.max([_relative(ours, theirs) for ours, theirs in pairs])),
            cosine=float(np.min([_cosine(ours, theirs) for ours, theirs in pairs])),
            top1_agreement=_top1_share(pairs),
            tolerance=tolerance,
            least_cosine=least_cosine,
            top1_positions=sum(_positions(theirs) for _, theirs in pairs),
        )


def widened(tolerance: float, rounding: float, precision: str) -> float:
    """The tolerance of a network whose eager fp32 outputs are `rounding` off its own in float64."""
    coarser, widest = (FP16_COARSER, FP16_WIDEST) if precision == "fp16" else (1, WIDEST)
    return max(tolerance, min(ROUNDING_FACTOR * rounding * coarser, widest))


def is_close(reference: Array, output: Array, tolerance: float) -> bool:
    """Whether a tensor equals another within `tolerance` of its largest magnitude; False for other shapes."""
    if reference.shape != output.shape:
        return False
    with np.errstate(invalid="ignore"):
        return bool(_relative(*_pair(output, reference)) <= tolerance)


def _pair(output: Array, reference: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if output.shape != reference.shape:
        raise ValueError(f"output of shape {output.shape} against reference of shape {reference.shape}")
    return output.astype(np.float64), reference.astype(np.float64)


def _relative(output: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    difference, largest = float(np.abs(output - reference).max()), float(np.abs(reference).max())
    if largest == 0:
        return difference if np.isnan(difference) or difference == 0 else float("inf")
    return difference / largest


def _cosine(output: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(output) * np.linalg.norm(reference))
    return float(np.vdot(output, reference)) / norms if norms else float(np.array_equal(output, reference))


def _top1_share(pairs: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> float:
    """Share of positions with the same largest channel, over all pairs of output and reference."""
    same = sum(_same_top1(ours, theirs) for ours, theirs in pairs)
    return same / sum(_positions(theirs) for _, theirs in pairs)


def _same_top1(output: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> int:
    axis = _channels(reference)
    return int(np.count_nonzero(output.argmax(axis) == reference.argmax(axis)))


def _positions(reference: npt.NDArray[np.float64]) -> int:
    return reference.size // reference.shape[_channels(reference)] if reference.ndim else 1


def _channels(reference: npt.NDArray[np.float64]) -> int:
    """Axis 1 of (B, C) and (B, C, H, W), else the last."""
    return 1 if reference.ndim in (2, 4) else -1
