"""A suite's table `match`, and what the command line changes of it: that of `match`, or of a suite's run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from commands import UsageError, options
from commands.config import Config
from commands.match_table import MAX_SEEDS, MatchTable, settings_of

USUAL_SUITE = "blocks-accuracy"
NO_FINE_KNOB = "off"


@dataclass(frozen=True, slots=True)
class Asked:
    """The values of one search: `table` with what the command line `given` changes in it."""

    suite: str
    table: MatchTable
    given: frozenset[str]

    def place(self, field: str) -> str:
        """Where a value is from, for messages: `--knob`, or `suite 'hybrid': match.knob`."""
        return option_of(field) if field in self.given else f"suite '{self.suite}': match.{field}"


def option_of(field: str) -> str:
    return "--model" if field == "models" else f"--{field.replace('_', '-')}"


def asked(config: Config, args: argparse.Namespace) -> Asked:
    """Raises UsageError for a suite without the table, and for a value that cannot be read.

    Another reference is taken out of the suite's networks, and the suite's own is then one of them.
    """
    name, table = _suite(config, args)
    changes = {field: _READERS[field](text) for field in _READERS if (text := _text(args, field)) is not None}
    if args.model:
        changes["models"] = list(options.values(args.model, "--model"))
    given = frozenset(changes)
    if "reference" in given and "models" not in given:
        everything = (table.reference, *table.models)
        changes["models"] = [each for each in everything if each != changes["reference"]]
    return Asked(name, table.model_copy(update=changes), given)


def matching_suites(config: Config) -> list[str]:
    """The suites with a table `match`, in order."""
    return [name for name, suite in config.suites.items() if suite.match is not None]


def _suite(config: Config, args: argparse.Namespace) -> tuple[str, MatchTable]:
    name = args.suite or USUAL_SUITE
    there = ", ".join(matching_suites(config)) or "none"
    if not args.suite and name not in config.suites:
        raise UsageError(f"--suite NAME is missing: {args.config} has {there} with a table 'match'")
    table = config.suite(name).match
    if table is None:
        raise UsageError(f"--suite: '{name}' has no table 'match', as these have: {there}")
    return name, table


def _text(args: argparse.Namespace, field: str) -> str | None:
    """What the command line says of a value; a suite's run takes lists, and here one of each is all."""
    given = getattr(args, field, None)
    if not isinstance(given, list):
        return given
    found = options.values(given, option_of(field)) if given else ()
    if len(found) > 1:
        raise UsageError(
            f"{option_of(field)}: networks are matched in one deployment: name {' or '.join(found)} alone"
        )
    return found[0] if found else None


def _settings(option: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            settings_of(text)
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
        return text

    return read


def _tolerance(text: str) -> float:
    value = options.share("--tolerance")(text)
    if value == 0.0:
        raise UsageError("--tolerance: no two networks take exactly as long: give more than 0, such as 3%")
    return value


def _rounds(text: str) -> int:
    rounds = options.positive("--rounds")(text)
    if rounds < 2:
        raise UsageError("--rounds: one round has no interval: at least 2")
    return rounds


def _seeds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_SEEDS):
        raise UsageError(f"--seeds: '{text}' is not a whole number from 0, for no training, to {MAX_SEEDS}")
    return int(text)


def _fine_knob(text: str) -> str:
    return "" if text == NO_FINE_KNOB else text


_READERS: Mapping[str, Callable[[str], Any]] = {
    "reference": str,
    "reference_setting": options.positive("--reference-setting"),
    "knob": str,
    "settings": _settings("--settings"),
    "fine_knob": _fine_knob,
    "fine_settings": _settings("--fine-settings"),
    "tolerance": _tolerance,
    "backend": str,
    "precision": str,
    "batch_size": options.positive("--batch-size"),
    "threads": options.positive("--threads"),
    "rounds": _rounds,
    "seeds": _seeds,
    "epochs": options.positive("--epochs"),
}
