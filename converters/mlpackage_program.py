"""The `mlpackage` steps of a conversion: converted, evaluated without and with rounding, compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from converters import mil_divergence, mil_interpreter
from converters.artifact import ConversionError, ConversionFailure, ConversionRequest, Step
from converters.ledger import Ledger
from converters.mil_call import UnsupportedOpError
from converters.mil_load import PackageError
from converters.mlpackage_compress import COMPRESSIONS, compared_weights, compress
from converters.mlpackage_convert import forget, save, to_core_ml, tool
from converters.mlpackage_image import Normalization
from converters.mlpackage_options import PackageOptions
from converters.parity import TOLERANCES, Array, compare, make_inputs
from converters.quiet import captured
from converters.source import Source, run_eager

T = TypeVar("T")


@dataclass(slots=True)
class Conversion:
    """One conversion on its way: `net` is what is exported, `given` what it takes for every input.

    With an image input the ledger's inputs are pixels, and `given` what Core ML makes of them.
    """

    request: ConversionRequest
    options: PackageOptions
    ledger: Ledger
    net: nn.Module
    given: tuple[Array, ...]
    normalization: Normalization | None = None


def computed_in(precision: str) -> str:
    """The type that a precision computes in: `fp16` for `fp16-pal4`."""
    return precision.partition("-")[0]


def converted(conversion: Conversion, program: torch.export.ExportedProgram, folder: Path) -> Path:
    """The package of a request, below `folder`, with the steps that this takes entered in the ledger.

    Raises ConversionError.
    """
    ledger = conversion.ledger
    ledger.begin("mlpackage")
    try:
        model = to_core_ml(
            program,
            conversion.options,
            precision=computed_in(conversion.request.precision),
            shapes=_shapes(conversion),
            normalization=conversion.normalization,
        )
    except ConversionError as error:
        raise ConversionError(replace(error.failure, steps=tuple(ledger.steps))) from error
    try:
        return _checked(conversion, model, folder)
    finally:
        forget(model)


def _checked(conversion: Conversion, model: Any, folder: Path) -> Path:
    request, ledger = conversion.request, conversion.ledger
    precision = computed_in(request.precision)
    package = save(model, folder / "converted.mlpackage")
    loaded = _loaded(package, ledger)
    _enter_exact(conversion, loaded, precision)
    if precision == "fp16":
        ledger.begin("float16")
        _enter_rounded(ledger, "float16", loaded, precision="fp16", note="every result rounded to its type")
    for other, name in _others(conversion):
        _check_other(conversion, loaded, other, name=name)
    if request.precision == precision:
        return package
    return _compressed(conversion, model, package, loaded)


def _enter_exact(conversion: Conversion, loaded: mil_interpreter.Program, precision: str) -> None:
    """The `mlpackage` step: the program as converted, weights in its own type, nothing rounded on the way."""
    ledger = conversion.ledger
    inputs = ledger.source.inputs

    def diverged() -> str:
        if conversion.normalization is not None:
            return ""
        found = mil_divergence.first_from_eager(loaded, inputs[0], conversion.net, TOLERANCES[precision])
        return str(found or "")

    ledger.end(
        "mlpackage",
        tool(),
        lambda: _run(loaded, inputs, rounding=False),
        precision=precision,
        note=f"weights in {precision}; the converted program, computed in fp32",
        diverged=diverged,
    )


def _enter_rounded(
    ledger: Ledger, name: str, loaded: mil_interpreter.Program, *, precision: str, note: str
) -> None:
    inputs = ledger.source.inputs

    def diverged() -> str:
        return str(mil_divergence.first_rounded(loaded, inputs[0], TOLERANCES[precision]) or "")

    ledger.end(
        name,
        tool(),
        lambda: _run(loaded, inputs, rounding=True),
        precision=precision,
        note=note,
        diverged=diverged,
    )


def _compressed(conversion: Conversion, model: Any, package: Path, dense: mil_interpreter.Program) -> Path:
    """The package with compressed weights, each compared with the weight that it was made from.

    From here on the reference is what the network computes with those weights: how far that is from what it
    computes with its own is the compression's doing, and is told in the note.
    """
    precision, ledger = conversion.request.precision, conversion.ledger
    ledger.begin("compressed")
    with captured():
        smaller = compress(model, precision)
    made = save(smaller, package.with_name("compressed.mlpackage"))
    forget(smaller)
    try:
        weights, report = compared_weights(package, made, precision)
    except ValueError as error:
        steps = tuple(ledger.steps)
        failure = ConversionFailure("parity_failed", "compressed", str(error), steps=steps)
        raise ConversionError(failure) from error
    source = ledger.source
    with_them = replace(dense, constants={name: torch.from_numpy(value) for name, value in weights.items()})
    reference = _run(with_them, source.inputs, rounding=False)
    moved = compare(source.reference, reference, TOLERANCES["fp32"])
    ledger.source = replace(source, reference=reference)
    note = "; ".join(
        (
            COMPRESSIONS[precision].meaning,
            str(report),
            f"with these weights the network is {moved.max_relative:.1e} off its outputs, cosine "
            f"{moved.cosine:.3f}; compared with the network with these weights",
        )
    )
    _enter_rounded(ledger, "compressed", _loaded(made, ledger), precision="fp16", note=note)
    return made


def _loaded(package: Path, ledger: Ledger) -> mil_interpreter.Program:
    """The interpreter's program of a package. Raises ConversionError where it knows an operator not."""
    return _refusing(lambda: mil_interpreter.load(package), tuple(ledger.steps))


def _run(program: mil_interpreter.Program, inputs: tuple[Array, ...], *, rounding: bool) -> tuple[Array, ...]:
    return _refusing(lambda: mil_interpreter.run_program(program, inputs, rounding=rounding), ())


def _refusing(action: Callable[[], T], steps: tuple[Step, ...]) -> T:
    try:
        return action()
    except (UnsupportedOpError, PackageError) as error:
        advice = "The package was converted, and cannot be verified without a Mac."
        failure = ConversionFailure("unsupported", "mlpackage", str(error)[:500], advice=advice, steps=steps)
        raise ConversionError(failure) from error


def _shapes(conversion: Conversion) -> list[tuple[int, ...]]:
    """That of the request first, then those of the other resolutions."""
    model, batch = conversion.request.model, conversion.request.batch_size
    sides = [side for side in conversion.options.sides if side != model.resolution]
    return [replace(model, resolution=side).input_shape(batch) for side in (model.resolution, *sides)]


def _others(conversion: Conversion) -> Iterator[tuple[Source, str]]:
    """Inputs of another batch size, and of every other resolution, with the eager network's outputs."""
    request, options = conversion.request, conversion.options
    wanted = [
        (replace(request.model, resolution=shape[2]), request.batch_size) for shape in _shapes(conversion)
    ]
    names = [f"resolution {spec.resolution}" for spec, _ in wanted]
    if options.max_batch:
        size = min(request.batch_size + 1, options.max_batch)
        wanted, names = [*wanted, (request.model, size)], [*names, f"batch {size}"]
    for (spec, size), name in list(zip(wanted, names, strict=True))[1:]:
        source = conversion.ledger.source
        inputs = make_inputs(spec, size, seed=request.input_seed, count=1)
        taken = inputs
        if conversion.normalization is not None:
            inputs = conversion.normalization.pixels(inputs)
            taken = conversion.normalization.normalized(inputs)
        yield replace(source, inputs=inputs, reference=run_eager(source.net, taken)), name


def _check_other(
    conversion: Conversion, loaded: mil_interpreter.Program, other: Source, *, name: str
) -> None:
    """Enter a step for a shape that the package says it takes. Raises ConversionError where it does not."""
    ledger = conversion.ledger.fork(other)
    precision = computed_in(conversion.request.precision)
    ledger.begin(name)
    try:
        _enter_rounded(ledger, name, loaded, precision=precision, note="the same package")
    except ConversionError as error:
        message = f"the package takes this shape and gives wrong outputs or none: {error.failure.message}"
        advice = "This network computes with its input's size: convert one package per size."
        failure = replace(error.failure, step=name, message=message, advice=advice)
        raise ConversionError(failure) from error
    conversion.ledger.steps[:] = ledger.steps
