"""Compressed weights in a Core ML package: 8-bit linear, palettes of 8, 6 and 4 bits, and pruning.

Weights are stored in fewer bits and computed with in fp16; activations stay fp16. Quantizing activations too
needs predictions on a Mac and is not offered. What is done is checked weight by weight against the package
before: for latency and size, not for accuracy, which needs real weights and data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.mil_load import load_function, opened

Values = npt.NDArray[Any]

# Tensors with fewer elements than this stay as they are, as coremltools has it by default.
THRESHOLD = 2048

# coremltools names a compressed weight after the weight.
_SUFFIXES = ("_quantized", "_palettized", "_sparsified")


@dataclass(frozen=True, slots=True)
class Compression:
    """`bar` is the largest error of a weight tensor that passes: root mean square, relative to the tensor's.

    Normally distributed weights are off by 0.7 % in 8 bits per channel, 0.6 % with 256, 2.6 % with 64 and 10
    % with 16 values; a wrong scale, axis or table is off by half or more. `kept` is the share of values that
    a pruned tensor keeps, unchanged.
    """

    meaning: str
    kind: str  # "linear", "palette", "sparse"
    bits: int
    bar: float
    kept: float = 1.0


COMPRESSIONS: Mapping[str, Compression] = {
    "fp16-int8w": Compression(
        "8-bit integers and one scale per output channel, symmetric", "linear", 8, 0.05
    ),
    "fp16-pal8": Compression("a table of 256 values per tensor, by k-means", "palette", 8, 0.05),
    "fp16-pal6": Compression("a table of 64 values per tensor, by k-means", "palette", 6, 0.1),
    "fp16-pal4": Compression("a table of 16 values per tensor, by k-means", "palette", 4, 0.3),
    "fp16-sparse50": Compression(
        "the smaller half of each tensor's values set to zero, the others kept", "sparse", 16, 0.0, 0.5
    ),
}


def compress(model: Any, precision: str) -> Any:
    """The MLModel with its weights as `precision` says; `model` is an fp16 MLModel and stays as it is."""
    from coremltools.optimize import coreml as optimize

    chosen = COMPRESSIONS[precision]
    if chosen.kind == "linear":
        linear = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=THRESHOLD)
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=linear))
    if chosen.kind == "sparse":
        pruned = optimize.OpMagnitudePrunerConfig(target_sparsity=1 - chosen.kept, weight_threshold=THRESHOLD)
        return optimize.prune_weights(model, optimize.OptimizationConfig(global_config=pruned))
    palette = optimize.OpPalettizerConfig(
        mode="custom",
        lut_function=lambda values: palettized(values, 2**chosen.bits),
        weight_threshold=THRESHOLD,
    )
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=palette))


def palettized(values: Values, count: int) -> tuple[Values, Values]:
    """A table of `count` values, sorted, and the index into it for each of `values`, flat.

    Lloyd's k-means in one dimension, on the distinct values and how often each occurs: fp16 has 65,536 of
    them, so a tensor of millions takes milliseconds. It starts from a rule
    and not from chance: equal weights give an equal table on every machine.
    """
    distinct, index, counts = np.unique(values.reshape(-1), return_inverse=True, return_counts=True)
    exact = distinct.astype(np.float64)
    if len(exact) <= count:
        table = np.concatenate([exact, np.full(count - len(exact), exact[-1])])
        return table.astype(values.dtype), index.astype(np.uint8)
    table, nearest = _lloyd(exact, counts.astype(np.float64), count)
    return table.astype(values.dtype), nearest[index].astype(np.uint8)


def _lloyd(values: Values, counts: Values, count: int, rounds: int = 100) -> tuple[Values, Values]:
    """Centres and, for each of the sorted `values`, the index of the nearest one."""
    below = np.concatenate([[0.0], np.cumsum(counts)])
    sums = np.concatenate([[0.0], np.cumsum(counts * values)])
    centres = _start(values, counts, count)
    for _ in range(rounds):
        edges = _edges(values, centres)
        amount = below[edges[1:]] - below[edges[:-1]]
        total = sums[edges[1:]] - sums[edges[:-1]]
        moved = np.where(amount > 0, total / np.maximum(amount, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    nearest = np.repeat(np.arange(count), np.diff(_edges(values, centres)))
    return centres, nearest


def _start(values: Values, counts: Values, count: int) -> Values:
    """Centres as dense as the cube root of the values' density, the best that there is for many centres.

    Panter and Dite, Quantization distortion in pulse-count modulation, 1951. Without it the tails of weights
    that differ from channel to channel would be left to a handful of centres.
    """
    edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
    share = np.cumsum(np.cbrt(counts * np.diff(edges) ** 2))
    return np.interp((np.arange(count) + 0.5) / count, share / share[-1], values)


def _edges(values: Values, centres: Values) -> npt.NDArray[np.intp]:
    """Where each centre's share of the sorted values begins; the last entry is their number."""
    middles = (centres[1:] + centres[:-1]) / 2
    inner = np.searchsorted(values, middles)
    return np.concatenate([[0], inner, [len(values)]])


@dataclass(frozen=True, slots=True)
class WeightReport:
    """`count` compressed tensors; `worst` has the largest `error`; `zeros` is the share of zeros in all."""

    count: int
    worst: str
    error: float
    zeros: float

    def __str__(self) -> str:
        if not self.count:
            return "no weight is large enough to be compressed"
        zeros = f", {100 * self.zeros:.0f} % zeros" if self.zeros > 0.1 else ""
        return f"{self.count} weights, the worst {100 * self.error:.1f} % off ({self.worst}){zeros}"


def compared_weights(before: Path, after: Path, precision: str) -> tuple[dict[str, Values], WeightReport]:
    """Every compressed weight of the package `after`, in fp32, compared with the fp16 one of `before`.

    Raises ValueError naming the first that is further off than the precision's bar, or that is not there in
    `before`, and PackageError for what cannot be read.
    """
    chosen = COMPRESSIONS[precision]
    originals = _weights(before)
    errors: dict[str, float] = {}
    zeros = total = 0
    found = _decompressed(after)
    for name, value in found.items():
        original = originals.get(name)
        if original is None or original.shape != value.shape:
            raise ValueError(f"{name} is compressed and is not a weight of the package before")
        kept = value != 0 if chosen.kind == "sparse" else np.ones(value.shape, bool)
        errors[name] = _error(original, value, kept)
        zeros, total = zeros + value.size - int(np.count_nonzero(value)), total + value.size
        share = np.count_nonzero(kept) / kept.size
        if not errors[name] <= chosen.bar or share > chosen.kept + 0.01:
            raise ValueError(
                f"{name} is {100 * errors[name]:.1f} % off with {100 * share:.0f} % of its values kept; "
                f"{precision} allows {100 * chosen.bar:g} % and {100 * chosen.kept:g} %"
            )
    worst = max(errors, key=lambda name: errors[name], default="")
    report = WeightReport(len(errors), worst, errors.get(worst, 0.0), zeros / total if total else 0.0)
    return {name: value.astype(np.float32) for name, value in found.items()}, report


def _error(original: Values, value: Values, kept: npt.NDArray[np.bool_]) -> float:
    """Root mean square difference where values were kept, relative to the original's root mean square."""
    wanted, given = original.astype(np.float64), value.astype(np.float64)
    scale = float(np.sqrt(np.mean(wanted**2)))
    return float(np.sqrt(np.mean(((given - wanted) * kept) ** 2))) / scale if scale else 0.0


def _weights(path: Path) -> dict[str, Values]:
    with opened(path) as package:
        return {
            operation.outputs[0].name: np.asarray(operation.val.val)
            for operation in load_function(package).operations
            if operation.op_type == "const" and isinstance(operation.val.val, np.ndarray)
        }


def _decompressed(path: Path) -> dict[str, Values]:
    """Compressed weights as numbers, by the name of the weight that they were made from."""
    found: dict[str, Values] = {}
    with opened(path) as package:
        for operation in load_function(package).operations:
            if operation.op_type.startswith("constexpr_"):
                name = operation.outputs[0].name
                suffix = next((s for s in _SUFFIXES if name.endswith(s)), "")
                found[name.removesuffix(suffix)] = np.asarray(operation.materialized_val_inference())
    return found
