"""Are a runtime's outputs right? Every rotated input is checked against the reference beside the artifact.

So are, in a case's first round, the inputs that a lowered precision is judged on.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runners.measurement import Top1
from runners.runner import Array, Runner, RunnerError

REBUILD = "Convert it again: the cache sets a damaged file aside."


def check_sha256(path: Path, expected: str) -> None:
    """Raises RunnerError `bad_artifact` where the file is missing or is not the one that was converted."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunnerError("bad_artifact", f"cannot read artifact {path}: {error.strerror}", REBUILD) from None
    if found != expected:
        raise RunnerError(
            "bad_artifact", f"artifact {path} has sha256 {found[:12]}…, expected {expected[:12]}…", REBUILD
        )


def read_tensors(path: Path) -> tuple[list[Array], list[Array]]:
    """(inputs, references) of the `.npz` beside an artifact.

    Raises RunnerError `bad_artifact` for a missing or damaged file, for constant inputs, which flatter some
    kernels, and for fewer than two different ones: a runtime that caches its output would pass unseen.
    """
    inputs, references = _pairs(path)
    if len(inputs) < 2:
        raise RunnerError(
            "bad_artifact", f"tensors {path} hold {len(inputs)} inputs; at least 2 are needed", REBUILD
        )
    _check_inputs(path, inputs)
    return inputs, references


def read_judged(path: Path) -> tuple[list[Array], list[Array]]:
    """(inputs, references) that no inference is timed with: none, but where the runtime lowers the precision.

    Raises RunnerError `bad_artifact` as above.
    """
    inputs, references = _pairs(path, "judged_")
    _check_inputs(path, inputs, "judged input")
    return inputs, references


def _pairs(path: Path, prefix: str = "") -> tuple[list[Array], list[Array]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            count = sum(name.startswith(f"{prefix}input_") for name in file.files)
            return (
                [file[f"{prefix}input_{i}"] for i in range(count)],
                [file[f"{prefix}reference_{i}"] for i in range(count)],
            )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunnerError("bad_artifact", f"cannot read tensors {path}: {error}", REBUILD) from None


def _check_inputs(path: Path, inputs: Sequence[Array], what: str = "input") -> None:
    for index, value in enumerate(inputs):
        if value.min() == value.max():
            raise RunnerError("bad_artifact", f"{what} {index} of {path} is constant", REBUILD)
        if index and np.array_equal(value, inputs[index - 1]):
            raise RunnerError("bad_artifact", f"{what}s {index - 1} and {index} of {path} are equal", REBUILD)


WIDE = 0.5  # a tolerance above this admits an output of zeros, or another input's
LEAST_COSINE, MOST_SCALE = 0.75, 2.0


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """References, and which output each input gave so far, by its hash, with its worst agreement."""

    references: Sequence[Array]
    tolerance: float
    seen: dict[int, bytes] = field(default_factory=dict)
    agreed: dict[int, Top1] = field(default_factory=dict)

    @property
    def top1(self) -> Top1 | None:
        """Over all inputs that were checked; None where nothing was, or outputs have no channels."""
        return total_top1(self.agreed.values())

    def run(self, runner: Runner, indices: Iterable[int]) -> float:
        """The largest relative error for these inputs: max |output - reference| / max |reference|.

        Raises RunnerError `wrong_output` beyond the tolerance, and where two inputs ever gave one output.
        """
        return max((self._one(runner, index) for index in indices), default=0.0)

    def _one(self, runner: Runner, index: int) -> float:
        output = _single(runner.outputs(index))
        error = _checked_error(output, self.references[index], self.tolerance, index)
        self.seen[index] = hashlib.sha256(output.tobytes()).digest()
        if (found := top1_of(output, self.references[index])) is not None:
            self.agreed[index] = min(found, self.agreed.get(index, found), key=lambda one: one.agreeing)
        for other, digest in self.seen.items():
            if digest == self.seen[index] and not np.array_equal(
                self.references[other], self.references[index]
            ):
                raise RunnerError(
                    "wrong_output",
                    f"inputs {other} and {index} gave the same output bit for bit, their references differ",
                    "The runtime returns a stored output instead of computing: its time would mean nothing.",
                )
        return error


def relative_error(output: Array, reference: Array) -> float:
    """Largest absolute difference over the reference's largest magnitude; NaN where either holds a NaN."""
    expected = reference.astype(np.float64)
    scale = float(np.max(np.abs(expected))) or 1.0
    with np.errstate(invalid="ignore"):  # infinity minus infinity is a NaN, which no tolerance admits
        return float(np.max(np.abs(output.astype(np.float64) - expected)) / scale)


def top1_of(output: Array, reference: Array) -> Top1 | None:
    """At how many positions the largest channel is the same.

    Channels are axis 1 of (B, C) and (B, C, H, W), else the last. None for values without channels, or with
    a single one.
    """
    axis = 1 if reference.ndim in (2, 4) else -1
    if reference.ndim < 2 or reference.shape[axis] < 2:
        return None
    same = output.argmax(axis) == reference.argmax(axis)
    return Top1(int(np.count_nonzero(same)), int(same.size))


def total_top1(found: Iterable[Top1]) -> Top1 | None:
    """All positions together; None without any."""
    every = list(found)
    if not every:
        return None
    return Top1(sum(one.agreeing for one in every), sum(one.positions for one in every))


def _single(outputs: list[Array]) -> Array:
    if len(outputs) != 1:
        raise RunnerError("wrong_output", f"the runtime gave {len(outputs)} outputs, expected 1", REBUILD)
    return outputs[0]


def _checked_error(output: Array, reference: Array, tolerance: float, index: int) -> float:
    advice = "Run `verify` on the artifact: either the conversion or this runtime computes something else."
    if output.shape != reference.shape:
        message = f"output {index} has shape {output.shape}, the reference {reference.shape}"
        raise RunnerError("wrong_output", message, advice)
    error = relative_error(output, reference)
    if not error <= tolerance:  # NaN fails too
        message = (
            f"output {index} is off by {error:.3g} relative to the reference (tolerance {tolerance:.3g})"
        )
        raise RunnerError("wrong_output", message, advice, relative_error=str(error))
    if tolerance > WIDE:
        _require_resemblance(output, reference, index, advice)
    return error


def _require_resemblance(output: Array, reference: Array, index: int, advice: str) -> None:
    """Where the tolerance is as wide as int8 needs it, size and direction must be right all the same."""
    ours, theirs = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    size, wanted = float(np.linalg.norm(ours)), float(np.linalg.norm(theirs))
    if not wanted:
        return
    cosine = float(ours @ theirs) / (size * wanted) if size else 0.0
    if not (cosine >= LEAST_COSINE and 1 / MOST_SCALE <= size / wanted <= MOST_SCALE):
        message = (
            f"output {index} has cosine {cosine:.3g} to the reference and {size / wanted:.3g} times its size"
            f" (at least {LEAST_COSINE:g}, and {1 / MOST_SCALE:g} to {MOST_SCALE:g} times)"
        )
        raise RunnerError("wrong_output", message, advice, cosine=str(cosine))
