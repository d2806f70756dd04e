"""`python bench.py bundle`: a suite's plan, artifacts and references as one file for another machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from commands import OK, SOME_FAILED, UsageError, options, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from commands.plan import Plan
    from converters.artifact import Artifact, ConversionFailure

DESCRIPTION = """
Converts what is missing and writes one uncompressed tar: the plan, every artifact with the inputs and
reference outputs that it is checked with, and the sha256 of each file. Carry it to the machine that has the
device, with a copy of this project:

  here:   python bench.py bundle --suite variants --backend trt --target sm86 -o variants.tar
  there:  python bench.py run-bundle variants.tar -o records.json
  here:   python bench.py import records.json && python bench.py report
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    run.add_matrix(parser)
    run.add_timing(parser.add_argument_group("how long to measure there"))
    out = parser.add_argument_group("where things go")
    options.add_config(out)
    out.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle, such as variants.tar"
    )
    out.add_argument("--force", action="store_true", help="replace a file that is there")
    options.add_json(out)


def execute(args: argparse.Namespace) -> int:
    from commands.plan import make
    from converters.archive import ArchiveError
    from converters.cache import CacheError
    from converters.cache_use import keys_of, leased
    from reports.files import OutputError

    config, base = options.load_config(args)
    if not args.suite:
        raise UsageError(f"--suite NAME is missing: {args.config} has {', '.join(sorted(config.suites))}")
    plan = make(config, args.suite, run.overrides(args), run.timing_overrides(args))
    for note in plan.notes:
        print(note, file=sys.stderr)
    _check_no_agent(plan)
    _check_free(args.output, force=args.force)
    try:
        cache_root = base / Path(config.paths.artifacts).expanduser()
        with leased(cache_root, keys_of(plan.requests().values())):
            outcomes = _outcomes(plan, cache_root)
            sha256 = _write(plan, outcomes, args.output, force=args.force)
    except (ArchiveError, CacheError, OutputError) as error:
        raise UsageError(str(error)) from None
    return _tell(plan, outcomes, sha256, args)


def _check_no_agent(plan: Plan) -> None:
    from commands.devices import driver_of

    for reason in plan.refused.values():
        raise UsageError(reason)
    for case in plan.cases:
        if driver_of(case):
            raise UsageError(
                f"{case.label}: devices with an agent take jobs, no bundle: run the suite itself, and carry"
                " its outbox to the device"
            )


def _check_free(path: Path, *, force: bool) -> None:
    """Before an hour of conversions, not after it."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file with -o")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: name another with -o, or replace it with --force")


def _outcomes(plan: Plan, cache_root: Path) -> dict[str, Artifact | ConversionFailure]:
    from commands import artifacts
    from reports.progress import Progress

    requests = plan.requests()
    progress = Progress()
    with progress:
        found = artifacts.collect(
            requests,
            cache_root,
            progress,
            deadline_seconds=plan.conversion_seconds,
            max_bytes=plan.max_artifact_bytes,
        )
    return {case_id: found[request] for case_id, request in requests.items()}


def _write(
    plan: Plan, outcomes: Mapping[str, Artifact | ConversionFailure], path: Path, *, force: bool
) -> str:
    """The bundle, on the disk under its name or not there at all; its sha256."""
    from commands.bundle_contents import content
    from converters import archive
    from reports.files import replacing
    from runners import environment

    project = {
        "version": environment.describe_packages().get("deploybench", ""),
        "revision": environment.describe_revision(),
    }
    with replacing(path) as temporary:
        described, paths = content(plan.suite, plan.focus, plan.timing, plan.cases, outcomes, project=project)
        with temporary.open("wb") as file:
            sha256 = archive.write(file, described, paths)
            file.flush()
            os.fsync(file.fileno())
        _check_free(path, force=force)
    _sync_folder(path.parent)
    return sha256


def _sync_folder(folder: Path) -> None:
    """Have the disk hold the new name too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tell(
    plan: Plan, outcomes: Mapping[str, Artifact | ConversionFailure], sha256: str, args: argparse.Namespace
) -> int:
    from converters.artifact import ConversionFailure

    labels = {case.id: case.label for case in plan.cases}
    failed = {key: found for key, found in outcomes.items() if isinstance(found, ConversionFailure)}
    for case_id, failure in failed.items():
        print(f"not in the bundle: {labels[case_id]}: {failure.step}: {failure.message}", file=sys.stderr)
    size = args.output.stat().st_size
    if args.json:
        value = {
            "schema": 1,
            "file": str(args.output),
            "sha256": sha256,
            "size_bytes": size,
            "cases": len(plan.cases),
            "failed": sorted(failed),
        }
        print(json.dumps(value))
    else:
        ready = len(plan.cases) - len(failed)
        print(f"{args.output}: {ready} of {len(plan.cases)} cases, {size / 1e6:.1f} MB, sha256 {sha256}")
        print(f"where the device is: python bench.py run-bundle {args.output.name} -o records.json")
    return SOME_FAILED if failed else OK
