"""The verbs of the command line, one file each, and the place where the stages are wired together.

A new verb is one file with `add_arguments(parser)` and `execute(args) -> int`, and one line in VERBS. Its
module is imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from models.tables import suggest
from reports.formatting import harmless

VERBS = {
    "run": ("commands.run", "run a suite: convert what is missing, measure, store and report (the default)"),
    "list": ("commands.listing", "what there is: models, blocks, suites, backends, devices"),
    "doctor": ("commands.doctor", "what this machine can build and time, and the fix for what it cannot"),
    "selftest": ("commands.selftest", "what differences this machine can resolve, in about two minutes"),
    "convert": ("commands.convert", "one model or block to one file, with its parity ledger"),
    "train": ("commands.train", "weights for a model, from images; without options a small one from digits"),
    "verify": ("commands.verify", "read a model file back, and compare its outputs with a model's"),
    "eval": ("commands.evaluate", "accuracy of a deployed file on labelled images, measured here"),
    "report": ("commands.report", "write the report of a stored run again, or list the stored runs"),
    "compare": ("commands.compare", "two runs, or two cases of one: ratios with intervals and verdicts"),
    "gate": ("commands.gate", "is the present code slower than a stored run? exit code 1 if it is"),
    "match": ("commands.match", "networks of one latency: the depth at which each takes as long as another"),
    "history": ("commands.history", "one case or model over all stored runs, with change points"),
    "export": ("commands.export", "a stored run as CSV, JSON, Parquet, records or pytest-benchmark JSON"),
    "bundle": ("commands.bundle", "a suite's files and plan as one archive for another machine"),
    "run-bundle": ("commands.run_bundle", "measure a bundle on the machine that has the device"),
    "import": (
        "commands.import_records",
        "records of another machine, or figures of trtexec, into the store",
    ),
    "cache": ("commands.cache", "what the artifact cache holds; trim it to a size, or clear it"),
    "agent": ("commands.agent", "phones and boards: list them, run jobs there, import Xcode's reports"),
}

OK, SOME_FAILED, BAD_INPUT, NOT_TIMED, UNDECIDED, CRASHED, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130
REGRESSED = SOME_FAILED  # of a gate, which has no other 1


class UsageError(Exception):
    """What a user can cause and correct: printed as one line on stderr, exit code 2."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors name the nearest option, and that takes no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            message = f"unknown option {unknown}: {suggest(unknown.split()[0].split('=')[0], options)}"
        raise UsageError(message)


def dispatch(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; every expected error is one message on stderr."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        verb, rest = split_verb(argv)
        code = run_verb(verb, rest)
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"error: {harmless(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe, `head` for example, has seen enough; the exit must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return BAD_INPUT


def _terminate(number: int, frame: object) -> None:
    """A job that is cancelled ends like one that is interrupted: what is stored stays, and it is said."""
    raise KeyboardInterrupt


def split_verb(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The verb and its arguments; options alone mean `run`. Raises UsageError for an unknown verb."""
    if not argv or argv[0].startswith("-"):
        return "run", list(argv)
    if argv[0] not in VERBS:
        raise UsageError(f"unknown command '{argv[0]}': {suggest(argv[0], VERBS)}")
    return argv[0], list(argv[1:])


def run_verb(verb: str, argv: Sequence[str]) -> int:
    module_name, description = VERBS[verb]
    module = import_module(module_name)
    overview = verb == "run"
    parser = _Parser(
        prog="python bench.py" if overview else f"python bench.py {verb}",
        description=_overview() if overview else description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 measured, 1 some case failed or regressed, 2 bad input, 3 built but not timed"
        " (no device), 4 a gate that is undecided",
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    args.command_line = " ".join(["python bench.py", *([] if overview else [verb]), *argv])
    return int(module.execute(args))


def _overview() -> str:
    verbs = "\n".join(f"  {name:<10} {description}" for name, (_, description) in VERBS.items())
    return f"How fast is this model or block, deployed on that runtime and device?\n\ncommands:\n{verbs}"
