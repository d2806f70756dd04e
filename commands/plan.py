"""From a suite and the options of the command line to cases, every one checked before anything runs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import converters
import models.info
import runners
from commands import UsageError
from commands.config import Config, Matrix, Suite, check_timing, parse_shape
from converters.artifact import ConversionError, ConversionRequest
from converters.keys import cache_key
from models.errors import ModelError
from models.spec import PRECISIONS, Case, ModelSpec, digest, sorted_options
from models.tables import UnknownNameError, suggest
from runners import BackendInfo, backend_info, parse_device, probe
from runners.measurement import Timing


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line narrows or replaces; an empty tuple leaves the suite's own values."""

    models: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite's cases in order, and how long to measure them."""

    suite: str
    cases: tuple[Case, ...]
    timing: Timing
    focus: str = ""

    def requests(self) -> dict[str, ConversionRequest]:
        """Case id to what must be converted for it; cases without a file to convert are left out."""
        kinds = {case.id: backend_info(case.backend).artifact_kind for case in self.cases}
        return {
            case.id: ConversionRequest.for_case(case, kinds[case.id])
            for case in self.cases
            if backend_info(case.backend).real
        }

    def digest(self, machine: str, versions: Mapping[str, Any]) -> str:
        """What a stored run must share to be resumed: cases, artifacts, timing, machine and runtimes."""
        keys = {case_id: cache_key(request) for case_id, request in self.requests().items()}
        timing = {name: getattr(self.timing, name) for name in self.timing.__slots__}
        cases = [case.id for case in self.cases]
        return digest([self.suite, cases, keys, timing, machine, dict(versions), runner_sources()])


def runner_sources() -> str:
    """sha256 over the sources of runners/: rounds of another timing loop are not continued."""
    folder = Path(runners.__file__).parent
    texts = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.py")}
    return digest(texts)


def make(config: Config, suite_name: str, overrides: Overrides, timing_overrides: Mapping[str, Any]) -> Plan:
    """The checked plan. Raises UsageError naming the first thing that cannot be done as asked."""
    suite = config.suite(suite_name)
    timing = check_timing(replace(config.timing_of(suite), **timing_overrides))
    _check_names(suite, overrides)
    _check_focus(suite_name, suite)
    cases = tuple(dict.fromkeys(_expanded(suite, overrides)))
    if not cases:
        raise UsageError(f"suite '{suite_name}' has no case left: {_nothing_left(suite, overrides)}")
    _check_all_used(suite_name, suite, overrides, cases)
    for case in cases:
        check_case(case)
    return Plan(suite_name, cases, timing, suite.focus)


def check_case(case: Case) -> None:
    """Raises UsageError where the case could never be built or run as asked, on any machine."""
    try:
        models.info.check(case.model)
        info = backend_info(case.backend)
        kind, _ = parse_device(case.device)
        if info.real:
            converters.check(ConversionRequest.for_case(case, info.artifact_kind))
    except (ModelError, UnknownNameError, ValueError) as error:
        raise UsageError(str(error)) from None
    except ConversionError as error:
        raise UsageError(f"{case.label}: {error.failure.message}") from None
    if case.backend == "null":
        raise UsageError("backend 'null' runs no model: it measures the timing loop in `make benchmark`")
    if kind not in info.devices:
        raise UsageError(
            f"backend '{case.backend}' does not run on device '{case.device}':"
            f" it runs on {', '.join(info.devices)}"
        )
    if case.precision not in info.precisions:
        raise UsageError(
            f"backend '{case.backend}' does not run in {case.precision}:"
            f" it runs in {', '.join(info.precisions)}"
        )
    _check_installed(info)


def _check_all_used(suite_name: str, suite: Suite, overrides: Overrides, cases: Sequence[Case]) -> None:
    """Whatever was asked for by name is in the plan, or it is said that it cannot be."""
    names = {case.model.name for case in cases}
    shapes = {case.model.shape_label for case in cases} | {str(case.model.resolution) for case in cases}
    for value in (*overrides.models, *overrides.resolutions):
        if value not in names | shapes:
            raise UsageError(
                f"suite '{suite_name}' has no place for '{value}': {_nothing_left(suite, overrides)}"
            )


def _check_installed(info: BackendInfo) -> None:
    if info.package and probe.package_folder(info.package) is None:
        what = f".[{info.extra}]" if info.extra else info.package
        raise UsageError(
            f"backend '{info.name}' needs the package '{info.package}', which is not installed:"
            f" pip install '{what}'"
        )


def _check_names(suite: Suite, overrides: Overrides) -> None:
    """Names of the command line first, so that a typo is not answered with 'no case left'."""
    for precision in overrides.precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{precision}': {suggest(precision, PRECISIONS)}")
    try:
        for name in overrides.models:
            models.info.check_name(name)
        for backend in overrides.backends:
            backend_info(backend)
        for device in overrides.devices:
            parse_device(device)
    except (UnknownNameError, ModelError, ValueError) as error:
        raise UsageError(str(error)) from None
    for value in overrides.resolutions:
        if "x" in value:
            parse_shape(value)
        elif not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UsageError(f"resolution '{value}' is not written like '224', or '14x14x384' for blocks")


def _check_focus(suite_name: str, suite: Suite) -> None:
    listed = {name for matrix in suite.matrix for name in matrix.models}
    if suite.focus and suite.focus not in listed:
        raise UsageError(
            f"suite '{suite_name}': focus '{suite.focus}' is not a model of it:"
            f" {suggest(suite.focus, listed)}"
        )


def _expanded(suite: Suite, overrides: Overrides) -> Iterator[Case]:
    listed = {name for matrix in suite.matrix for name in matrix.models}
    for matrix in suite.matrix:
        backends = overrides.backends or matrix.backends or suite.backends
        names = _models(matrix, listed, overrides.models)
        combined = itertools.product(
            list(_specs(matrix, names, overrides.resolutions)),
            matrix.fused,
            overrides.batch_sizes or matrix.batch_sizes,
            overrides.precisions or matrix.precisions,
            backends,
            overrides.devices or suite.devices,
            overrides.threads or suite.threads,
        )
        for spec, fused, batch_size, precision, backend, device, threads in combined:
            yield Case(
                spec,
                backend,
                batch_size=batch_size,
                precision=precision,
                fused=fused,
                device=device,
                threads=threads,
            )


def _models(matrix: Matrix, listed: set[str], asked: Sequence[str]) -> list[str]:
    """The matrix's models that are asked for, and those that the suite does not list but the matrix fits."""
    if not asked:
        return matrix.models
    blocks = bool(matrix.shapes)
    added = [name for name in asked if name not in listed and name.startswith("block/") == blocks]
    return [name for name in matrix.models if name in asked] + (added if True in matrix.fused else [])


def _specs(matrix: Matrix, names: Sequence[str], resolutions: Sequence[str]) -> Iterator[ModelSpec]:
    shapes = [shape for shape in matrix.shapes if _matches(shape, resolutions)]
    shapes += [value for value in resolutions if matrix.shapes and "x" in value and value not in shapes]
    sides = [int(value) for value in resolutions if "x" not in value] if resolutions else matrix.resolutions
    for shape, name in itertools.product(shapes, names):
        if name.startswith("block/"):
            side, channels = parse_shape(shape)
            options = {**matrix.options, "in_channels": channels}
            yield ModelSpec(name, side, sorted_options(options))
    for side_of_image, name in itertools.product(sides, names):
        if not name.startswith("block/"):
            yield ModelSpec(name, side_of_image, sorted_options(matrix.options))


def _matches(shape: str, resolutions: Sequence[str]) -> bool:
    return not resolutions or shape in resolutions or shape.partition("x")[0] in resolutions


def _nothing_left(suite: Suite, overrides: Overrides) -> str:
    have = list(dict.fromkeys(shape for matrix in suite.matrix for shape in matrix.shapes))
    sides = list(dict.fromkeys(str(side) for matrix in suite.matrix for side in matrix.resolutions))
    asked = ", ".join((*overrides.models, *overrides.resolutions))
    return f"nothing in it fits {asked or 'an empty list'}; it has {', '.join((*have, *sides))}"
