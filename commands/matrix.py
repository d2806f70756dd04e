"""A suite's matrix, narrowed or replaced by the command line, as cases: nothing is checked but names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from commands import UsageError
from commands.calibrations import Calibrations
from commands.checkpoints import Checkpoints
from commands.config import Config, Matrix, Suite, parse_shape
from commands.devices import compute_units
from commands.network_parts import parts_of_network
from commands.onnx_files import OnnxFile, specs
from commands.own_resolution import OWN, own_sides
from commands.targets import builds_for_target, targets
from models.spec import Case, ModelSpec, Option, Options, sorted_options
from models.tables import UnknownNameError
from runners import BackendInfo, backend_info
from runners.options import OptionError, read

if TYPE_CHECKING:
    from commands.plan import Overrides


def expanded(
    config: Config, suite: Suite, overrides: Overrides, checkpoints: Checkpoints, calibrations: Calibrations
) -> Iterator[Case]:
    """Every cell of every matrix of the suite. Raises UsageError for an unknown backend or option."""
    listed = {name for matrix in suite.matrix for name in matrix.models}
    named = [_models(matrix, listed, overrides.models, overrides.files) for matrix in suite.matrix]
    own = own_sides(itertools.chain(*named)) if OWN in overrides.resolutions else {}
    for matrix, names in zip(suite.matrix, named, strict=True):
        built = checkpoints.applied(_specs(matrix, names, overrides, own), matrix)
        built += [part for spec in built for _, part in parts_of_network(spec)] if matrix.parts else []
        backends = overrides.backends or matrix.backends or suite.backends
        for spec, fused, batch_size, precision, backend in itertools.product(
            built,
            matrix.fused,
            overrides.batch_sizes or matrix.batch_sizes,
            overrides.precisions or matrix.precisions or ("",),
            backends,
        ):
            chosen = precision or _info(backend).precisions[0]
            images = calibrations.of(matrix, chosen, _info(backend))
            cell = Case(
                spec, backend, batch_size=batch_size, precision=chosen, fused=fused, calibration=images
            )
            yield from _placed(cell, config, suite, matrix, overrides)
    for file in overrides.files:
        yield from _of_file(file, config, suite, overrides, calibrations)


def _of_file(
    file: OnnxFile, config: Config, suite: Suite, overrides: Overrides, calibrations: Calibrations
) -> Iterator[Case]:
    """A file's cells, by the settings of the suite's first matrix of images, or else of its first one."""
    matrix = next((each for each in suite.matrix if each.resolutions), suite.matrix[0])
    for spec, batch_size, precision, backend in itertools.product(
        specs(file, overrides.resolutions, [] if OWN in overrides.resolutions else matrix.resolutions),
        overrides.batch_sizes or matrix.batch_sizes,
        overrides.precisions or (file.precision,),
        overrides.backends or matrix.backends or suite.backends,
    ):
        images = calibrations.of(matrix, precision, _info(backend)) if file.precision != precision else ""
        cell = Case(spec, backend, batch_size=batch_size, precision=precision, calibration=images)
        yield from _placed(cell, config, suite, matrix, overrides)


def _placed(cell: Case, config: Config, suite: Suite, matrix: Matrix, overrides: Overrides) -> Iterator[Case]:
    """The cell on every device, compute unit, number of threads and target, with its options.

    A device that nobody names is the backend's usual one.
    """
    info = _info(cell.backend)
    build = _build_options(info, {**matrix.build, **overrides.build})
    given = {**matrix.runtime, **overrides.runtime}
    devices = overrides.devices or suite.devices or info.devices[:1]
    for device, threads in itertools.product(devices, overrides.threads or matrix.threads or suite.threads):
        runtime = _runtime_options(info, given, device)
        units = compute_units(
            info, device, asked=overrides.compute_units, configured=suite.compute_units or ()
        )
        built_for = targets(info, device, asked=overrides.targets, configured=config.trt.targets)
        for unit, target in itertools.product(units, built_for):
            yield Case(
                cell.model,
                cell.backend,
                batch_size=cell.batch_size,
                precision=cell.precision,
                fused=cell.fused,
                device=device,
                threads=threads,
                compute_unit=unit,
                target=target,
                build=build,
                runtime=runtime,
                calibration=cell.calibration,
            )


def check_targets(backends: Sequence[str], asked: Sequence[str]) -> None:
    """Raises UsageError where a target is asked for and a backend builds for none."""
    for name in backends if asked else ():
        if not builds_for_target(_info(name)):
            raise UsageError(
                f"--target {','.join(asked)}: backend '{name}' builds for no target in particular:"
                " leave out --target, or run that backend on its own"
            )


def _info(backend: str) -> BackendInfo:
    try:
        return backend_info(backend)
    except UnknownNameError as error:
        raise UsageError(str(error)) from None


def _build_options(info: BackendInfo, given: Mapping[str, Option]) -> Options:
    """What the converter of the backend's files does not take is told by `converters.check`."""
    if given and not info.real:
        raise UsageError(
            f"backend '{info.name}' builds no file, so it has no build option '{next(iter(given))}'"
        )
    return sorted_options(given)


def _runtime_options(info: BackendInfo, given: Mapping[str, Option], device: str) -> Options:
    """Those that differ from the backend's defaults: a case that states a default is the case without it."""
    try:
        chosen = read(info.options, given, device=device.partition(":")[0])
    except OptionError as error:
        raise UsageError(f"backend '{info.name}': {error}") from None
    return sorted_options(
        {name: value for name, value in chosen.items() if value != info.options[name].default}
    )


def _models(matrix: Matrix, listed: set[str], asked: Sequence[str], files: Sequence[OnnxFile]) -> list[str]:
    """The matrix's models that are asked for, and those that the suite does not list but the matrix fits."""
    if not asked:
        return [] if files else matrix.models
    blocks = bool(matrix.shapes)
    added = [name for name in asked if name not in listed and name.startswith("block/") == blocks]
    return [name for name in matrix.models if name in asked] + (added if True in matrix.fused else [])


def _specs(
    matrix: Matrix, names: Sequence[str], overrides: Overrides, own: Mapping[str, int]
) -> Iterator[ModelSpec]:
    """`own` are the networks' own resolutions, where those are asked for."""
    resolutions, given = overrides.resolutions, {**matrix.options, **overrides.options}
    shapes = [shape for shape in matrix.shapes if _matches(shape, resolutions)]
    shapes += [value for value in resolutions if matrix.shapes and "x" in value and value not in shapes]
    sides: Sequence[str | int] = (
        [value for value in resolutions if "x" not in value] if resolutions else matrix.resolutions
    )
    for shape, name in itertools.product(shapes, names):
        if name.startswith("block/"):
            side, channels = parse_shape(shape)
            yield ModelSpec(name, side, sorted_options({**given, "in_channels": channels}))
    for side_of_image, name in itertools.product(sides, names):
        if not name.startswith("block/"):
            side = own[name] if side_of_image == OWN else int(side_of_image)
            yield ModelSpec(name, side, sorted_options(given))


def _matches(shape: str, resolutions: Sequence[str]) -> bool:
    return not resolutions or shape in resolutions or shape.partition("x")[0] in resolutions
