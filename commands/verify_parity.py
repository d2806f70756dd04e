"""How far a file's outputs are from a model's, and where they begin to differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from commands import UsageError
from commands.model_options import model_spec
from converters.artifact import NO_COSINE, ConversionError, ConversionRequest, Parity
from converters.parity import LEAST_COSINES, TOLERANCES, Array, compare, widened
from converters.read_back import FileFacts, ReadBackError
from converters.source import Source, build_source, run_eager
from models.errors import ModelError
from models.spec import Option

# Weights of 8 bits and less are as far off as int8 computation is, or further.
COMPRESSED = "int8"


@dataclass(frozen=True, slots=True)
class Against:
    """The model to compare with, and the inputs: `count` of them from `seed`."""

    model: str
    resolution: str | None
    checkpoint: Path | None
    options: Mapping[str, Option]
    seed: int
    count: int
    tolerance: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`parities` by what ran the file; `first` the first operator or module that differs, where one does.

    `wrong` is a compressed weight that is none of the model's.
    """

    model: str
    shape: str
    parities: Mapping[str, Parity]
    first: str = ""
    note: str = ""
    wrong: str = ""

    @property
    def passed(self) -> bool:
        return not self.wrong and all(parity.passed for parity in self.parities.values())

    def lines(self) -> Iterator[tuple[str, str]]:
        yield "against", f"{self.model} {self.shape}"
        for tool, parity in self.parities.items():
            bar = f"at most {parity.tolerance:.1e}"
            if parity.least_cosine != NO_COSINE:
                bar += f", cosine at least {parity.least_cosine:g}"
            yield (
                "parity",
                f"{'passed' if parity.passed else 'FAILED'}: max relative error {parity.max_relative:.1e}"
                f" ({bar}), cosine {parity.cosine:.6f}, top-1 agreement {parity.top1_agreement:.3f}"
                f" ({parity.top1_agreeing} of {parity.top1_positions})",
            )
            yield "run by", tool
        if self.wrong:
            yield "weights", f"FAILED: {self.wrong}"
        if self.note:
            yield "note", self.note
        if self.first:
            yield "first", self.first

    def to_dict(self) -> dict[str, Any]:
        return {
            "against": self.model,
            "shape": self.shape,
            "passed": self.passed,
            "runs": [
                {"tool": tool, **_finite(asdict(parity)), "passed": parity.passed}
                for tool, parity in self.parities.items()
            ],
            "first_divergence": self.first,
            "wrong_weight": self.wrong,
            "note": self.note,
        }


def compared(facts: FileFacts, against: Against) -> Verdict:
    """Run a file and its model on the same inputs.

    Raises ReadBackError for a file that cannot be run, UsageError for a model that cannot be built or takes
    other inputs.
    """
    shape = _input_shape(facts)
    spec = model_spec(
        against.model,
        resolution=against.resolution or _resolution(against.model, shape),
        chosen=against.options,
        checkpoint=against.checkpoint,
    )
    request = ConversionRequest(
        spec,
        "onnx",
        batch_size=shape[0] if shape and shape[0] > 0 else 1,
        checkpoint=against.checkpoint,
        input_seed=against.seed,
        input_count=against.count,
    )
    try:
        source, note = _as_taken(build_source(request), facts)
    except (ConversionError, ModelError) as error:
        raise UsageError(str(error)) from None
    if shape and not _same(shape, source.inputs[0].shape):
        raise UsageError(
            f"{facts.path} takes inputs of {_text(shape)}, {spec.name} was asked for with"
            f" {_text(source.inputs[0].shape)}: --resolution says which"
        )
    if facts.kind == "mlpackage" and facts.compression and against.tolerance is None:
        return _of_compressed(facts, source, Verdict(spec.name, spec.shape_label, {}, note=note))
    parities = {tool: _parity(source, outputs, facts, against) for tool, outputs in _runs(facts, source)}
    first = "" if all(p.passed for p in parities.values()) else _first(facts, source, against)
    if len(facts.outputs) > 1:
        note = "; ".join(filter(None, (note, f"compared is the first of {len(facts.outputs)} outputs")))
    return Verdict(spec.name, spec.shape_label, parities, first, note)


def _runs(facts: FileFacts, source: Source) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """The file's outputs, by what ran it: on a Mac, Core ML itself too."""
    assert facts.outputs_for is not None
    yield facts.tool, facts.outputs_for(source.inputs)
    if facts.kind == "mlpackage" and facts.facts.get("input_kind") == "tensor":
        from converters.coreml_predict import COMPUTE_UNITS, predict, why_not

        for unit in COMPUTE_UNITS if not why_not() else ():
            yield f"Core ML, {unit}", predict(facts.path, source.inputs, compute_unit=unit)


def _of_compressed(facts: FileFacts, source: Source, empty: Verdict) -> Verdict:
    """Judged with the model's own weights in place of the compressed ones, which are held to those."""
    from converters import reparameterize
    from converters.compressed_weights import matched
    from converters.mil_interpreter import load, run_program
    from converters.quiet import captured

    assert facts.outputs_for is not None
    with captured():
        fused = reparameterize(source.net, source.example)
    found = matched(load(facts.path), source.net, fused)
    outputs = facts.outputs_for(source.inputs)
    moved = compare(source.reference, outputs, TOLERANCES["fp32"])
    told = f"with its own weights the file is {moved.max_relative:.1e} off, cosine {moved.cosine:.3f}"
    note = "; ".join(filter(None, (empty.note, found.note, told)))
    if found.wrong:
        return replace(empty, note=note, wrong=found.wrong)
    judged = replace(facts, compression={})
    exact = run_program(found.program, source.inputs, rounding=True)
    tool = f"{facts.tool}, with the model's weights in place of the compressed ones"
    plain = Against("", None, None, {}, 0, 0, None)
    parities = {tool: _parity(source, exact, judged, plain)}
    compressed = replace(source, reference=outputs)
    for tool, values in list(_runs(facts, compressed))[1:]:
        parities[tool] = _parity(compressed, values, judged, plain)
    return replace(empty, parities=parities, note=note)


def _parity(source: Source, outputs: tuple[Array, ...], facts: FileFacts, against: Against) -> Parity:
    """Judged by the file's precision, or by the network's own rounding where that is more."""
    precision = COMPRESSED if facts.compression else facts.precision
    bar = against.tolerance or TOLERANCES.get(precision, TOLERANCES["fp16"])
    least = LEAST_COSINES.get(precision, NO_COSINE)
    try:
        found = compare(source.reference, outputs, bar, least_cosine=least)
    except ValueError as error:
        raise ReadBackError(f"{facts.path}: {error}: is it another model?") from None
    if found.passed or against.tolerance is not None:
        return found
    return replace(found, tolerance=widened(bar, source.rounding(), precision))


def _as_taken(source: Source, facts: FileFacts) -> tuple[Source, str]:
    """The source as the file takes it: an image input is given pixels, and normalizes them itself."""
    if facts.facts.get("input_kind") != "image":
        return source, ""
    from converters.mlpackage_image import normalization_of

    normalization = normalization_of(source.net)
    pixels = normalization.pixels(source.inputs)
    reference = run_eager(source.net, normalization.normalized(pixels))
    note = f"given pixels; the model is given them with mean {normalization.mean}, std {normalization.std}"
    return replace(source, inputs=pixels, reference=reference), note


def _first(facts: FileFacts, source: Source, against: Against) -> str:
    """Where a Core ML program begins to differ: by rounding, or already without."""
    if facts.kind != "mlpackage" or facts.facts.get("input_kind") == "image":
        return ""
    from converters import reparameterize
    from converters.mil_divergence import first_from_eager, first_rounded
    from converters.mil_interpreter import load, run_program
    from converters.quiet import captured

    program, example = load(facts.path), source.inputs[0]
    bar = against.tolerance or TOLERANCES.get(facts.precision, TOLERANCES["fp16"])
    exact = compare(source.reference[:1], run_program(program, [example], rounding=False), bar)
    if exact.passed:
        found = first_rounded(program, example, bar)
        return f"{found}, by rounding: without, the program agrees" if found else ""
    with captured():
        net = reparameterize(source.net, source.example)
    found = first_from_eager(program, example, net, bar)
    return f"{found}, without rounding too" if found else ""


def _input_shape(facts: FileFacts) -> tuple[int, ...]:
    """The sides of the only input, -1 where one is open; empty where the file does not tell."""
    if len(facts.inputs) > 1:
        names = ", ".join(value.name for value in facts.inputs)
        raise ReadBackError(f"{facts.path} has the inputs {names}; one is expected")
    return facts.inputs[0].shape if facts.inputs else ()


def _resolution(model: str, shape: tuple[int, ...]) -> str | None:
    """The file's own, written as `--resolution` is; None where it leaves it open."""
    if len(shape) != 4 or shape[2] != shape[3] or min(shape[1:]) < 1:
        return None
    side, channels = shape[2], shape[1]
    return f"{side}x{side}x{channels}" if model.startswith("block/") else str(side)


def _same(declared: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(declared) == len(given) and all(
        side in (-1, size) for side, size in zip(declared, given, strict=True)
    )


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has no number for is left out as null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
