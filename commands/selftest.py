"""`python bench.py selftest`: what differences this machine can resolve, found with known ones.

Three equal cases, and three slowed down by 1, 2 and 5 %, are measured as a suite is, in a store that is
thrown away: equal ones must not differ, and the slowed ones by what they were slowed down.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, SOME_FAILED, UsageError, options, run

if TYPE_CHECKING:
    from commands.trials import Trial
    from reports.verdicts import Comparison
    from runners.measurement import Timing

SECONDS = 110.0
LEAST_SECONDS = 5.0
MOST_ROUNDS = 1000  # of a case: the time ends it
SLOWDOWNS = (0.01, 0.02, 0.05)
WANTED = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", metavar="NAME", default="onnxruntime", help="default: onnxruntime")
    parser.add_argument("--seconds", metavar="S", help=f"how long to measure (default: {SECONDS:g})")
    run.add_turns(parser)
    options.add_config(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """0 where everything could be measured, however noisy, 1 where a case failed or the device is taken."""
    from commands.timing import check_timing, in_turns
    from commands.trials import TrialError
    from converters.cache import CacheError
    from runners.measurement import Timing
    from runners.suite import DeviceBusyError

    seconds = SECONDS if args.seconds is None else options.seconds("--seconds")(args.seconds)
    if seconds < LEAST_SECONDS:
        raise UsageError(
            f"--seconds: {seconds:g} s do not hold two rounds of each case: at least {LEAST_SECONDS:g}"
        )
    config, base = options.load_config(args)
    default = config.timing.applied_to(Timing())
    default = in_turns(default)
    if args.turns is not None:
        default = replace(default, turn_seconds=options.seconds("--turns", zero=True)(args.turns))
    check_timing(default)
    cache_root = base / Path(config.paths.artifacts).expanduser()
    try:
        outcome = _measured(
            args.backend, cache_root, default, seconds, deadline_seconds=config.conversion.deadline_seconds
        )
    except CacheError as error:
        raise UsageError(str(error)) from None
    except (TrialError, DeviceBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    if args.json:
        print(json.dumps({"schema": 1, **outcome.to_dict()}))
    else:
        _print(outcome)
    return OK


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one trial says of the machine.

    `noise_floor` is a share, None where the rounds were too few to tell; `default_rounds` are those after
    which the default budget would have stopped.
    """

    backend: str
    label: str
    trial: Trial
    default_rounds: int
    noise_floor: float | None
    seconds: float
    turn_seconds: float

    @property
    def equal(self) -> list[Comparison]:
        """The equal pairs at delta = 0, where any FASTER or SLOWER is false."""
        return self.trial.equal_pairs(delta=0.0)

    @property
    def slowed(self) -> Mapping[str, Comparison]:
        """Each slowed case against the first of the equal ones, at delta = 0."""
        against = self.trial.copies[0]
        pairs = {name: self.trial.compared(name, against, delta=0.0) for name in self.trial.slowed}
        return {name: found for name, found in pairs.items() if found is not None}

    @property
    def disturbed(self) -> int:
        return sum("disturbed" in r.flags for m in self.trial.measurements.values() for r in m.rounds)

    @property
    def rounds(self) -> int:
        return sum(len(m.rounds) for m in self.trial.measurements.values())

    @property
    def resolves(self) -> bool:
        return self.noise_floor is not None and self.noise_floor <= WANTED

    def to_dict(self) -> dict[str, Any]:
        wide = self.trial.equal_pairs(delta=WANTED)
        return {
            "backend": self.backend,
            "case": self.label,
            "typical_ns": self.trial.typical_ns,
            "seconds": self.seconds,
            "turn_seconds": self.turn_seconds,
            "rounds": self.rounds,
            "disturbed_rounds": self.disturbed,
            "equal": [_told(found) for found in self.equal],
            "false_verdicts": sum(found.differs for found in self.equal),
            "false_verdicts_beyond_1_percent": sum(found.differs for found in wide),
            "slowed": [
                {"true_ratio": self.trial.true_ratio(name), **_told(found)}
                for name, found in self.slowed.items()
            ],
            "default_rounds": self.default_rounds,
            "noise_floor": self.noise_floor,
            "resolves_1_percent": self.resolves,
        }


def _told(found: Comparison) -> dict[str, Any]:
    return {**asdict(found.ratio), "verdict": str(found.verdict)}


def _measured(
    backend: str, cache_root: Path, default: Timing, seconds: float, *, deadline_seconds: float
) -> Outcome:
    from commands import trials
    from converters.cache_use import leased
    from reports.progress import Progress
    from reports.statistics import converged
    from reports.store import Store
    from runners.suite_events import Event, RoundStarted

    variants = [trials.Variant(name) for name in ("first", "same again", "and again")]
    variants += [trials.Variant(f"{share:.0%} slower", share) for share in SLOWDOWNS]
    begun = time.monotonic()
    with (
        Progress() as progress,
        tempfile.TemporaryDirectory(prefix="deploybench-selftest-") as folder,
        leased(cache_root, trials.needed_keys(backend)),
    ):
        subject = trials.subject(backend, cache_root, default, progress, deadline_seconds=deadline_seconds)
        taken = 0

        def observe(event: Event, name: str) -> None:
            nonlocal taken
            if isinstance(event, RoundStarted):
                left_ns = round(seconds * 1e9) - event.elapsed_ns
                progress.round(taken, taken + 1, name, event.round_index, max(0, left_ns))
                taken += 1

        with Store(Path(folder) / "selftest.db") as store:
            trial = trials.take(
                subject,
                variants,
                replace(default, min_rounds=2, max_rounds=MOST_ROUNDS, max_seconds=seconds),
                store,
                converged=lambda rounds: False,
                observe=observe,
            )
    stops = [
        trials.rounds_until_converged(
            trial.measurements[name], default, lambda rounds: converged(rounds, default.target)
        )
        for name in trial.copies
    ]
    usual = round(statistics.median(stops))
    floor = trials.noise_floor(trials.paired_spread(trial), usual)
    return Outcome(
        backend, subject.case.label, trial, usual, floor, time.monotonic() - begun, default.turn_seconds
    )


def _print(outcome: Outcome) -> None:
    from rich.table import Table
    from rich.text import Text

    from reports import formatting as fmt
    from reports.console import PlainConsole

    trial, console = outcome.trial, PlainConsole()
    cases = fmt.count(len(trial.measurements), "case")
    console.print(
        Text(
            f"{outcome.label}, {fmt.duration(trial.typical_ns)}: {outcome.rounds} rounds of {cases} in"
            f" {fmt.span(round(outcome.seconds * 1e9))}{_in_turns(outcome)}"
        )
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header, side in (("compared with the first", "left"), ("true", "right"), ("found", "right")):
        table.add_column(header, justify=side)  # type: ignore[arg-type]
    table.add_column("95 % interval")
    table.add_column("verdict")
    first = trial.copies[0]
    for name in (*trial.copies[1:], *trial.slowed):
        found = trial.compared(name, first, delta=0.0)
        if found is not None:
            table.add_row(name, f"{trial.true_ratio(name):.4f}", *_cells(found))
    console.print(table)
    for line in _sentences(outcome):
        console.print(Text(line))


def _in_turns(outcome: Outcome) -> str:
    return f", in turns of {outcome.turn_seconds:g} s" if outcome.turn_seconds else ", one after the other"


def _cells(found: Comparison) -> tuple[str, str, str]:
    ratio = found.ratio
    interval = "" if ratio.low is None else f"{ratio.low:.4f} to {ratio.high:.4f}"
    return f"{ratio.value:.4f}", interval, str(found.verdict)


def _sentences(outcome: Outcome) -> list[str]:
    from reports import formatting as fmt

    told = outcome.to_dict()
    pairs, found = len(outcome.equal), sum(c.differs for c in outcome.slowed.values())
    lines = [
        f"False verdicts: {told['false_verdicts']} of {fmt.count(pairs, 'pair')} of equal cases"
        f" ({told['false_verdicts_beyond_1_percent']} beyond 1 %); slow-downs found: {found} of"
        f" {len(outcome.slowed)}.",
    ]
    if outcome.noise_floor is None:
        return [*lines, "The rounds were too few to tell the noise floor: give it more --seconds."]
    does = "resolves" if outcome.resolves else "does not resolve"
    kind = "in turns, as `gate` takes them" if outcome.turn_seconds else "one after the other, as a suite's"
    lines += [
        f"Noise floor: {fmt.percent(outcome.noise_floor)}, the smallest difference that the"
        f" {outcome.default_rounds} rounds of the default budget find in 80 of 100 tries.",
        f"The default budget {does} 1 % on this machine, with rounds {kind}.",
    ]
    if outcome.turn_seconds:
        lines.append("Whole rounds, as suites take them unless told, usually have a higher one: `--turns 0`.")
    if outcome.disturbed:
        rounds = fmt.count(outcome.rounds, "round")
        lines.append(f"Disturbed: {outcome.disturbed} of {rounds}; `doctor` says what else works here.")
    if outcome.disturbed > outcome.rounds / 2:
        lines.append("That is most of them: try again when the machine is idle.")
    if not outcome.resolves:
        lines.append("More rounds or a quieter machine help: see `doctor`, and `[timing]` of bench.toml.")
    return lines
