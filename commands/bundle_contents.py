"""What a bundle says about its files: the plan of a suite, and every case's artifact or why it has none.

The machine that measures has a runtime and NumPy: what is imported here needs no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from commands import UsageError
from converters.archive import ArchiveError, Member
from converters.archive_reader import Manifest
from converters.artifact import Artifact, ConversionFailure
from models.spec import Case
from models.tables import UnknownNameError
from reports.codec import decode, encode
from reports.records_file import case_of, check_suite
from reports.strict import FormError, built, check, member
from runners import BackendInfo, affinity, backend_info
from runners.measurement import Timing

FORMAT = "deploybench bundle"
# A runtime computes what is in these files. An exported program is different: PyTorch evaluates expressions
# and may unpickle objects while it loads one, so whoever wrote the file decides what runs.
WITHOUT_CODE = ("onnx", "engine")
NO_FILE = ("simulation", "none")


@dataclass(frozen=True)
class Bundle:
    """A bundle as it is measured. `outcomes` holds every case but the simulated ones, which need no file."""

    suite: str
    focus: str
    timing: Timing
    cases: tuple[Case, ...]
    outcomes: Mapping[str, Artifact | ConversionFailure]
    sha256: str
    project: Mapping[str, Any]


def content(
    suite: str,
    focus: str,
    timing: Timing,
    cases: tuple[Case, ...],
    outcomes: Mapping[str, Artifact | ConversionFailure],
    *,
    project: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[Member, Path]]:
    """The plan as plain values, and the files that it names. Raises OSError for a file that is gone."""
    paths: dict[Member, Path] = {}
    value = {
        "format": FORMAT,
        "project": dict(project),
        "suite": suite,
        "focus": focus,
        "timing": asdict(timing),
        "cases": [_case_content(case, outcomes.get(case.id), paths) for case in cases],
    }
    plain: dict[str, Any] = json.loads(encode(value))  # a failed parity may hold a NaN
    return plain, paths


def _case_content(
    case: Case, outcome: Artifact | ConversionFailure | None, paths: dict[Member, Path]
) -> dict[str, Any]:
    value: dict[str, Any] = {"id": case.id, "case": case.to_dict(), "artifact": None, "failure": None}
    if isinstance(outcome, ConversionFailure):
        return {**value, "failure": outcome.to_dict()}
    if outcome is None:
        return value
    files = {
        "path": Member.of(outcome.path, outcome.sha256),
        "tensors": Member.of(outcome.tensors, outcome.tensors_sha256),
    }
    paths.update(zip(files.values(), (outcome.path, outcome.tensors), strict=True))
    names = {field: found.name for field, found in files.items()}
    return {**value, "artifact": {**outcome.to_dict(), **names}}


def bundle_of(manifest: Manifest, folder: Path, *, trusted: str = "") -> Bundle:
    """The bundle of a manifest whose files are, or will be, below `folder`.

    `trusted` is the sha256 of a bundle whose maker the user vouches for. Raises ArchiveError for a plan that
    contradicts itself, UsageError where a file could run code and the bundle is not vouched for.
    """
    try:
        bundle = _bundle(manifest, folder)
    except FormError as error:
        raise ArchiveError(f"{manifest.path}: {error}") from None
    if trusted and trusted != bundle.sha256:
        raise UsageError(
            f"--trust {trusted[:64]}: {manifest.path} is another bundle, {bundle.sha256}; compare it with"
            " what `bundle` printed where it was made"
        )
    if not trusted:
        _refuse_code(manifest.path, bundle)
    return bundle


def _refuse_code(path: Path, bundle: Bundle) -> None:
    for case in bundle.cases:
        outcome = bundle.outcomes.get(case.id)
        if isinstance(outcome, Artifact) and outcome.kind not in WITHOUT_CODE:
            raise UsageError(
                f"{path}: {case.label} is measured from a file of kind '{outcome.kind}', which can run code"
                f" while it is loaded. Where you made this bundle yourself, say so: --trust {bundle.sha256}"
                " (`bundle` printed the same number), or leave that backend out of the bundle"
            )


def _bundle(manifest: Manifest, folder: Path) -> Bundle:
    value = decode(json.dumps(dict(manifest.content)))
    if value.get("format") != FORMAT:
        raise FormError("the archive holds no bundle")
    known = {found.name: found for found in manifest.members}
    entries = [
        _entry(entry, f"cases[{i}]", known) for i, entry in enumerate(member(value, "cases", list, "bundle"))
    ]
    cases = tuple(case for case, _ in entries)
    if len(set(cases)) != len(cases):
        raise FormError("a case is listed twice")
    used = {
        str(getattr(o, name)) for _, o in entries for name in ("path", "tensors") if isinstance(o, Artifact)
    }
    if used != known.keys():
        raise FormError(f"{len(known.keys() - used)} files belong to no case")
    suite = member(value, "suite", str, "bundle")
    check_suite(suite, "bundle.suite")
    return Bundle(
        suite=suite,
        focus=member(value, "focus", str, "bundle"),
        timing=_timing(member(value, "timing", dict, "bundle")),
        cases=cases,
        outcomes={case.id: _placed(outcome, folder) for case, outcome in entries if outcome is not None},
        sha256=manifest.sha256,
        project=member(value, "project", dict, "bundle"),
    )


def _placed(outcome: Artifact | ConversionFailure, folder: Path) -> Artifact | ConversionFailure:
    if isinstance(outcome, ConversionFailure):
        return outcome
    return Artifact.from_dict(outcome.to_dict(), relative_to=folder)


def _entry(
    value: object, what: str, known: Mapping[str, Member]
) -> tuple[Case, Artifact | ConversionFailure | None]:
    if not isinstance(value, dict) or value.keys() != {"id", "case", "artifact", "failure"}:
        raise FormError(f"{what} is no case")
    case = case_of(value, what)
    _check_runnable(case, what)
    if value["failure"] is not None:
        return case, built(ConversionFailure.from_dict, value["failure"], f"{what}.failure")
    if value["artifact"] is None:
        if _kind(case) not in NO_FILE:
            raise FormError(f"{what}: {case.label} has neither a file nor a failure")
        return case, None
    artifact = built(Artifact.from_dict, value["artifact"], f"{what}.artifact")
    _check_artifact(case, artifact, known, what)
    return case, artifact


def _check_runnable(case: Case, what: str) -> None:
    """What planning checks where a bundle is made."""
    known = _info(case).precisions
    if case.precision not in known:
        raise FormError(f"{what}: backend '{case.backend}' runs in {', '.join(known)}, not {case.precision}")
    if case.threads < 1 or case.batch_size < 1:
        raise FormError(f"{what}: threads and batch_size are at least 1")


def _check_artifact(case: Case, artifact: Artifact, known: Mapping[str, Member], what: str) -> None:
    """The file is of this case, of the kind that its runtime loads, and in the archive."""
    kind = _kind(case)
    if artifact.kind != kind:
        raise FormError(
            f"{what}: backend '{case.backend}' loads files of kind '{kind}', not '{artifact.kind}'"
        )
    same = (artifact.model, artifact.batch_size, artifact.fused, artifact.target)
    if same != (case.model, case.batch_size, case.fused, case.target):
        raise FormError(f"{what}: the file is not of {case.label}")
    for path, sha256 in ((artifact.path, artifact.sha256), (artifact.tensors, artifact.tensors_sha256)):
        found = known.get(str(path))
        if found is None or found.sha256 != sha256:
            raise FormError(f"{what}: '{str(path)[:100]}' is no file of the archive")


def _kind(case: Case) -> str:
    return _info(case).artifact_kind


def _info(case: Case) -> BackendInfo:
    try:
        return backend_info(case.backend)
    except UnknownNameError as error:
        raise FormError(f"{error} (the bundle was made with another version or extension)") from None


def _timing(value: Mapping[str, Any]) -> Timing:
    timing = built(lambda given: Timing(**given), value, "timing")
    check(timing, "timing")
    for field in fields(timing):
        number = getattr(timing, field.name)
        if not isinstance(number, str) and not (math.isfinite(number) and number >= 0):
            raise FormError(f"timing.{field.name} = {number} is out of range")
    try:
        affinity.parse(timing.pin)
    except affinity.PinError as error:
        raise FormError(f"timing.pin: {error}") from None
    if timing.min_rounds < 1 or timing.min_samples < 1:
        raise FormError("timing: min_rounds and min_samples are at least 1")
    return timing
