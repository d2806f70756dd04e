"""Cases whose file is built here and whose device is elsewhere: why, and how they are timed there."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable

from commands.devices import driver_of, missing
from commands.targets import built_elsewhere, target_here
from models.spec import Case
from reports.records import CaseResult
from runners import parse_device
from runners.measurement import Failure

# What narrows a suite, in the order in which it is written; `bundle` takes the same.
NARROWING = (
    *("suite", "model", "exclude", "max_params", "max_gmacs"),
    *("resolution", "backend", "device", "compute_unit", "batch_size", "precision"),
    "threads",
    *("target", "build", "runtime", "rounds", "max_seconds", "seed", "config"),
)


def not_here(case: Case, advice: str = "") -> Failure | None:
    """The record of a case that is built and cannot be timed here; None where it can."""
    reason, _, fix = missing(case.backend, case.device).partition("; ")
    elsewhere = built_elsewhere(case.target, case.device)
    if not (reason or elsewhere):
        return None
    # With a GPU here it is a package that is missing, and carrying the files away would not help.
    missing_package = reason and target_here(case.device)
    return Failure("unavailable", reason or elsewhere, fix if missing_package else advice or fix, built=True)


def unchanged(result: CaseResult) -> bool:
    """Was it stored as built, and is the device still missing for the same reason?

    Of a device with an agent that is not told: its results may lie in the outbox by now.
    """
    here = not result.untimed or driver_of(result.case) is not None
    found = None if here else not_here(result.case)
    return bool(found and result.failure and found.message == result.failure.message)


def carry(args: argparse.Namespace, case: Case) -> str:
    """How to time a case of this command line where its GPU is; empty for what needs no GPU."""
    if parse_device(case.device)[0] != "cuda":
        return ""
    name = args.suite
    return (
        f"Carry it to a machine with that GPU: `python bench.py bundle {' '.join(_narrowing(args))}"
        f" -o {name}.tar`; there `python bench.py run-bundle {name}.tar -o {name}.json`;"
        f" here again `python bench.py import {name}.json`."
    )


def _narrowing(args: argparse.Namespace) -> Iterable[str]:
    from commands.options import CONFIG

    for name in NARROWING:
        value = getattr(args, name, None)
        if not value or value == CONFIG:
            continue
        for text in value if isinstance(value, list) else [value]:
            yield f"--{name.replace('_', '-')} {shlex.quote(str(text))}"
