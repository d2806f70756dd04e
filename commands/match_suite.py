"""`python bench.py --suite NAME` of a suite that is searched by latency: what `match` does, and a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import UsageError, match
from commands.config import Config
from commands.match_options import matching_suites, option_of

# Options of an ordinary suite that say nothing where networks are searched in one deployment on the CPU.
_REFUSED = (
    *("exclude", "max_params", "max_gmacs", "resolution", "device", "compute_unit", "target", "build"),
    *("runtime", "checkpoint", "option", "max_seconds", "turns", "seed", "pin", "profile"),
    *("calibrate", "calibration_images"),
)
_TRAINING = ("seeds", "epochs")


def is_match(config: Config, name: str) -> bool:
    """A suite with a table `match`."""
    return name in config.suites and config.suites[name].match is not None


def execute(args: argparse.Namespace, config: Config, base: Path) -> int:
    """Raises UsageError for an option that only ordinary suites take."""
    for name in _REFUSED:
        if getattr(args, name):
            raise UsageError(
                f"{option_of(name)}: suite '{args.suite}' searches networks of one latency: it takes --model,"
                " --backend, --precision, --batch-size, --threads, --rounds, --seeds, --epochs and --fresh,"
                f" and `match --suite {args.suite}` more"
            )
    if args.report is None:
        args.report = base / Path(config.paths.reports).expanduser() / f"{args.suite}.html"
    return match.run(args, config, base)


def refuse_trainings(args: argparse.Namespace, config: Config) -> None:
    """Raises UsageError where an ordinary suite is asked to train."""
    for name in _TRAINING:
        if getattr(args, name) is not None:
            known = " and ".join(matching_suites(config)) or "none here"
            raise UsageError(
                f"{option_of(name)}: suite '{args.suite}' trains nothing: suites with a table 'match' do"
                f" ({known})"
            )
