"""From a suite and the options of the command line to cases, every one checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import converters
import models.info
from commands import UsageError
from commands import devices as agents
from commands.artifact_limit import limit_of, own_limit_of
from commands.asked_names import check_names
from commands.calibrations import Calibrations
from commands.checkpoints import Checkpoints
from commands.config import Config, Suite
from commands.matrix import check_targets, expanded
from commands.network_parts import parts_of_cases
from commands.onnx_files import OnnxFile
from commands.own_resolution import OWN
from commands.precision_cells import possible
from commands.profiling import check_profile
from commands.timing import check_timing
from converters.artifact import ConversionError, ConversionRequest
from converters.keys import cache_key
from converters.pool import DEADLINE_SECONDS
from models.errors import ModelError, SideError
from models.spec import Case, Option, digest
from models.tables import UnknownNameError, suggest
from runners import BackendInfo, backend_info, parse_device, probe
from runners.measurement import Timing
from runners.sources import runner_sources


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line narrows or replaces; an empty tuple leaves the suite's own values.

    `batched`: models were named by pattern, so there may be hundreds. `checkpoints` are as they were written,
    `NAME=FILE` or a file alone; `options` are the builders' own. `calibrate` is `digits` or a folder's path.
    """

    models: tuple[str, ...] = ()
    files: tuple[OnnxFile, ...] = ()
    batched: bool = False
    checkpoints: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    resolutions: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    compute_units: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    build: Mapping[str, Option] = field(default_factory=dict)
    runtime: Mapping[str, Option] = field(default_factory=dict)
    calibrate: str = ""
    calibration_images: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite's cases in order, how long to measure them, and how long the conversion of each may take.

    With `profile`, each case's first round ends with a profile by layer, where the runtime has one. `parts`
    are those of networks that are measured in parts too: (module path, the part's case id) by case id.
    `max_artifact_bytes` is how large the artifact cache may grow, None for any size; a `batched` plan keeps
    `max_own_bytes` of the files that it made itself at most. `files` are the user's own ONNX files and
    checkpoints by the weights of their models, and `refused` why cases can be built nowhere, by case id: of
    an ONNX file, or of a network at a side that it cannot take beside cases that can be built. A `batched`
    plan, of networks by pattern, is converted and measured in batches. `notes` say what was left out.
    """

    suite: str
    cases: tuple[Case, ...]
    timing: Timing
    focus: str = ""
    conversion_seconds: float = DEADLINE_SECONDS
    profile: bool = False
    parts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    max_artifact_bytes: int | None = None
    max_own_bytes: int | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    calibration_data: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    batched: bool = False
    notes: tuple[str, ...] = ()

    def requests(self) -> dict[str, ConversionRequest]:
        """Case id to what must be converted for it; cases without a file to convert are left out."""
        return self.requests_of(self.cases)

    def requests_of(self, cases: Iterable[Case]) -> dict[str, ConversionRequest]:
        """As `requests`, of some of the cases."""
        return {
            case.id: request_of(case, self.files, self.calibration_data)
            for case in cases
            if backend_info(case.backend).real and case.id not in self.refused
        }

    def digest(self, machine: str, versions: Mapping[str, Any]) -> str:
        """What a stored run must share to be resumed: cases, artifacts, timing, machine and runtimes."""
        keys = {case_id: cache_key(request) for case_id, request in self.requests().items()}
        timing = {name: getattr(self.timing, name) for name in self.timing.__slots__}
        cases = [case.id for case in self.cases]
        later = ["profile"] if self.profile else []
        return digest([self.suite, cases, keys, timing, machine, dict(versions), runner_sources(), *later])


def request_of(
    case: Case, files: Mapping[str, Path] | None = None, calibration_data: Mapping[str, str] | None = None
) -> ConversionRequest:
    """What must be converted for a case; `files` are those of users, by the weights of their models.

    `calibration_data` is where images lie, by the calibrations of cases. A case's file may be of another
    precision: where the runtime lowers it by itself, the file stays fp32, and as many inputs lie beside it as
    a file of that precision would be judged on.
    """
    info = backend_info(case.backend)
    precision = info.file_precisions.get(case.precision, case.precision)
    request = ConversionRequest.for_case(
        replace(case, precision=precision), info.artifact_kind, flavour=info.flavour
    )
    if precision != case.precision:
        request = request.judged
    request = replace(request, calibration_data=(calibration_data or {}).get(request.calibration, ""))
    own = (files or {}).get(case.model.weights)
    return replace(request, checkpoint=own) if own is not None else request


def make(
    config: Config,
    suite_name: str,
    overrides: Overrides,
    timing_overrides: Mapping[str, Any],
    *,
    profile: bool = False,
) -> Plan:
    """The checked plan. Raises UsageError naming the first thing that cannot be done as asked.

    `profile` asks for profiles by layer, whether or not the suite does.
    """
    suite = config.suite(suite_name)
    if suite.match is not None:
        raise UsageError(
            f"suite '{suite_name}' has no cases before it is run, as its networks are searched by latency:"
            f" python bench.py --suite {suite_name}"
        )
    timing = check_timing(replace(config.timing_of(suite), **timing_overrides))
    check_names(overrides)
    _check_focus(suite_name, suite)
    checkpoints = Checkpoints(suite, overrides)
    calibrations = Calibrations(overrides)
    every = list(dict.fromkeys(expanded(config, suite, overrides, checkpoints, calibrations)))
    cases, notes = possible(every)
    check_targets(list(dict.fromkeys(case.backend for case in cases)), overrides.targets)
    if not cases:
        raise UsageError(f"suite '{suite_name}' has no case left: {_nothing_left(suite, overrides)}")
    _check_all_used(suite_name, suite, overrides, cases)
    refused = _refused(cases, {file.weights: file.refusal for file in overrides.files if file.refusal})
    check_profile(cases, asked=profile)
    checkpoints.check(dict.fromkeys(case.model for case in cases))
    calibrations.check(cases)
    return Plan(
        suite_name,
        cases,
        timing,
        suite.focus,
        config.conversion.deadline_seconds,
        profile=profile or suite.profile,
        parts=parts_of_cases(suite, cases),
        max_artifact_bytes=limit_of(config),
        max_own_bytes=own_limit_of(config) if overrides.batched else None,
        files={
            **checkpoints.files,
            **{file.weights: file.path for file in overrides.files if not file.refusal},
        },
        calibration_data=calibrations.data,
        refused=refused,
        batched=overrides.batched,
        notes=notes,
    )


def _refused(cases: Sequence[Case], unread: Mapping[str, str]) -> dict[str, str]:
    """Why a case cannot be built, where that says nothing against the others: each of those fails alone.

    So it is with any case of a user's ONNX file, and with a network that cannot take the side that others
    can. `unread` is why files were not opened, by weights. Raises UsageError for everything else, and where
    nothing but such sides and files is asked for.
    """
    found = {}
    for case in cases:
        if case.model.is_file:
            _check_installed(_known(case.backend))
        if reason := unread.get(case.model.weights):
            found[case.id] = reason
            continue
        try:
            check_case(case)
        except UsageError as error:
            if not (case.model.is_file or isinstance(error.__cause__, SideError)):
                raise
            found[case.id] = str(error)
    opened = [case for case in cases if case.model.is_file and case.model.weights not in unread]
    if len(found) == len(cases) > len(opened):
        raise UsageError(next(iter(found.values())))
    return found


def _known(backend: str) -> BackendInfo:
    try:
        return backend_info(backend)
    except UnknownNameError as error:
        raise UsageError(str(error)) from None


def check_case(case: Case) -> None:
    """Raises UsageError where the case could never be built or run as asked, on any machine."""
    try:
        models.info.check(case.model)
        info = backend_info(case.backend)
        parse_device(case.device)
        if info.real:
            converters.check(request_of(case))
    except (ModelError, UnknownNameError, ValueError) as error:
        raise UsageError(str(error)) from error  # the cause is looked at where one case may fail alone
    except ConversionError as error:
        raise UsageError(f"{case.label}: {error.failure.message}") from None
    if case.backend == "null":
        raise UsageError("backend 'null' runs no model: it measures the timing loop in `make benchmark`")
    if not agents.runs_on(info, case.device):
        raise UsageError(
            f"backend '{case.backend}' does not run on device '{case.device}':"
            f" it runs on {', '.join(agents.devices_of(info))}"
        )
    agents.check(case)
    if case.precision not in info.precisions:
        raise UsageError(
            f"backend '{case.backend}' does not run in {case.precision}:"
            f" it runs in {', '.join(info.precisions)}"
        )
    _check_installed(info)


def _check_all_used(suite_name: str, suite: Suite, overrides: Overrides, cases: Sequence[Case]) -> None:
    """Whatever was asked for by name is in the plan, or it is said that it cannot be."""
    names = {case.model.name for case in cases}
    shapes = {OWN, *(shape for c in cases for shape in (c.model.shape_label, str(c.model.resolution)))}
    for value in (*overrides.models, *overrides.resolutions):
        if value not in names | shapes:
            raise UsageError(
                f"suite '{suite_name}' has no place for '{value}': {_nothing_left(suite, overrides)}"
            )


def _check_installed(info: BackendInfo) -> None:
    if info.packages and not any(probe.package_folder(package) for package in info.packages):
        what = f".[{info.extra}]" if info.extra else info.package
        packages = " or ".join(f"'{package}'" for package in info.packages)
        raise UsageError(
            f"backend '{info.name}' needs the package {packages}, which is not installed:"
            f" pip install '{what}'"
        )


def _check_focus(suite_name: str, suite: Suite) -> None:
    listed = {name for matrix in suite.matrix for name in matrix.models}
    if suite.focus and suite.focus not in listed:
        raise UsageError(
            f"suite '{suite_name}': focus '{suite.focus}' is not a model of it:"
            f" {suggest(suite.focus, listed)}"
        )


def _nothing_left(suite: Suite, overrides: Overrides) -> str:
    have = list(dict.fromkeys(shape for matrix in suite.matrix for shape in matrix.shapes))
    sides = list(dict.fromkeys(str(side) for matrix in suite.matrix for side in matrix.resolutions))
    asked = ", ".join((*overrides.models, *overrides.resolutions))
    return f"nothing in it fits {asked or 'an empty list'}; it has {', '.join((*have, *sides))}"
