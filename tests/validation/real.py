"""The instrument on this machine, with real processes and real noise: equal cases, slow-downs, the loop.

`python -m tests.validation.real` takes about an hour and wants a quiet machine; `--scale 0.1 --check`
tries it out. A trial is a suite of its own on the default settings of bench.toml, its cases in turns as
`gate` and `selftest` take them; `--turns 0` takes whole rounds, as suites do.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from commands import trials
from commands.timing import TURN_SECONDS
from commands.trials import Subject, Trial, Variant
from reports.progress import Progress
from reports.statistics import converged
from reports.store import Store
from runners.measurement import Measurement, Timing
from runners.overhead import iteration_cost_ns, sample_cost_ns, sleep_reading_ns
from tests.busy_cores import busy_cores
from tests.validation import cross_check, document
from tests.validation.document import Cell, Section
from tests.validation.instrument import default_timing
from tests.validation.pooled import Met, pooled

COMMAND = "python -m tests.validation.real"
COPIES = tuple(Variant(f"copy {number}") for number in range(1, 7))
SLOWED = tuple(Variant(f"{share:.0%} slower", share) for share in (0.05, 0.02, 0.01))
TRIALS = 14  # of 15 pairs of equal cases each: over 200
QUIET_SECONDS, LOADED_SECONDS = 150.0, 100.0  # the most that a trial may take: about the least rounds
PARTS = ("loop", "cross", "quiet", "loaded")
FALSE_BAR, FALSE_BEYOND_BAR = 0.09, 0.01
POWER_BARS = {"5% slower": 0.99, "2% slower": 0.95, "1% slower": 0.80}
BIAS_BAR = 0.002
SAME_COLUMNS = (
    *("machine", "trials", "pairs", "false at 0", "share", "false at 1 %"),
    *("rounds a case", "disturbed rounds", "bar", "met"),
)
POWER_COLUMNS = (
    *("case", "trials", "comparisons", "true ratio", "found", "bias", "noise floor", "bar", "met"),
)
LOOP_NS, SLEEP_NS, SLEEP_BAR = 1000, 10_000_000, (10.0e6, 10.2e6)


@dataclass(frozen=True, slots=True)
class Taken:
    """The trials of one part, the seconds that they took, and those of a turn, 0 for whole rounds."""

    trials: Sequence[Trial]
    seconds: float
    turn_seconds: float

    @property
    def manner(self) -> str:
        return f"in turns of {self.turn_seconds:g} s" if self.turn_seconds else "in whole rounds"


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every bar holds, 1 where one is missed."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="where the file is cached")
    parser.add_argument("--check", action="store_true", help="print, write nothing")
    parser.add_argument("--add", action="store_true", help="count the trials that are stored too")
    parser.add_argument("--turns", type=float, default=TURN_SECONDS, help="seconds of a turn")
    args = parser.parse_args(argv)
    begun, missed = time.monotonic(), 0
    stored = {section.name: section for section in document.read()} if args.add else {}
    for section in taken(args.parts, args.scale, args.artifacts, args.turns):
        if section.name in stored and section.name in MET:
            section = pooled(stored[section.name], section, MET[section.name])
        print(document.render_section(section), flush=True)
        missed += len(section.missed)
        if not args.check:
            document.store(section)
    if not args.check:
        document.main()
    bars = f"{missed} bars missed" if missed else "every bar is met"
    print(f"{bars}, after {time.monotonic() - begun:.0f} s")
    return 1 if missed else 0


def taken(parts: Sequence[str], scale: float, artifacts: Path, turns: float) -> Iterator[Section]:
    """The sections, each as soon as it is complete."""
    with Progress() as progress, tempfile.TemporaryDirectory() as folder:
        if "loop" in parts:
            yield loop_section(folder)
        if set(parts) == {"loop"}:
            return
        policy, count = replace(default_timing(), turn_seconds=turns), max(1, round(TRIALS * scale))
        subject = trials.subject("onnxruntime", artifacts, policy, progress)
        if "cross" in parts:
            yield cross_check.section(subject, command=COMMAND)
        if "quiet" in parts:
            quiet = repeated(subject, (*COPIES, *SLOWED), count, policy, QUIET_SECONDS, progress.note)
            yield power_section(quiet)
            yield same_section("real_same_artifact", "no load added", quiet)
        if "loaded" in parts:
            with busy_cores():
                loaded = repeated(subject, COPIES, count, policy, LOADED_SECONDS, progress.note)
            yield same_section("real_under_load", "a busy process on every core", loaded)


def repeated(
    subject: Subject,
    variants: Sequence[Variant],
    count: int,
    policy: Timing,
    seconds: float,
    say: Callable[[str], None],
) -> Taken:
    """So many trials one after the other, each in a store and with an order of its own.

    An interrupt ends them, and those that were complete by then count.
    """
    begun, found = time.monotonic(), list[Trial]()
    with suppress(KeyboardInterrupt):
        for number in range(count):
            found.append(_trial(subject, variants, policy, seconds, number))
            say(f"trial {number + 1} of {count} after {time.monotonic() - begun:.0f} s")
    if not found:
        raise KeyboardInterrupt
    return Taken(found, time.monotonic() - begun, policy.turn_seconds)


def _trial(
    subject: Subject, variants: Sequence[Variant], policy: Timing, seconds: float, number: int
) -> Trial:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "trial.db") as opened:
        timing = replace(policy, seed=number, max_seconds=seconds)
        return trials.take(
            subject, variants, timing, opened, converged=lambda rounds: converged(rounds, policy.target)
        )


def same_met(row: Mapping[str, Cell]) -> bool:
    """Of a row of `same_section`: few enough pairs told apart."""
    pairs = _number(row, "pairs")
    plain, wide = _number(row, "false at 0") / pairs, _number(row, "false at 1 %") / pairs
    return plain <= FALSE_BAR and wide <= FALSE_BEYOND_BAR


def power_met(row: Mapping[str, Cell]) -> bool:
    """Of a row of `power_section`: often enough found, and the ratio right."""
    found, bias = _number(row, "found"), _number(row, "bias")
    return found >= POWER_BARS[str(row["case"])] and abs(bias) <= BIAS_BAR


MET: dict[str, Met] = {
    "real_same_artifact": same_met,
    "real_under_load": same_met,
    "real_power": power_met,
}


def _number(row: Mapping[str, Cell], name: str) -> float:
    value = row[name]
    assert isinstance(value, int | float)
    return float(value)


def _judged(columns: Sequence[str], row: Sequence[Cell], met: Met) -> tuple[Cell, ...]:
    """The row with its last cell."""
    return (*row, met(dict(zip(columns, row, strict=False))))


def same_section(name: str, machine: str, part: Taken) -> Section:
    plain, wide = (
        [c.differs for t in part.trials for c in t.equal_pairs(delta=delta)] for delta in (0.0, 0.01)
    )
    shares = statistics.fmean(plain), statistics.fmean(wide)
    row = (
        *(machine, len(part.trials), len(plain), sum(plain), shares[0], sum(wide)),
        *(rounds_per_case(part), disturbed_share(part)),
        f"≤ {FALSE_BAR:.0%}, ≤ {FALSE_BEYOND_BAR:.0%}",
    )
    return Section(
        name,
        f"The same file under several names, on a real machine: {machine}",
        f"{len(COPIES)} equal cases a trial, of one ONNX file of {trials.BLOCK.name} in ONNX Runtime, each"
        f" with a busy wait of {trials.WAIT_OF_ALL:.0%} behind every inference,"
        f" measured as a suite {part.manner} until they are precise or the budget ends. Every pair of a trial"
        " is compared, so pairs of one trial share cases."
        " False is FASTER or SLOWER: at δ = 0, and at δ = 1 %.",
        SAME_COLUMNS,
        (_judged(SAME_COLUMNS, row, same_met),),
        COMMAND,
        part.seconds,
    )


def power_section(quiet: Taken) -> Section:
    rows = []
    for variant in SLOWED:
        found, errors, truths = [], [], []
        for trial in quiet.trials:
            truths.append(trial.true_ratio(variant.name))
            for copy in trial.copies:
                comparison = trial.compared(variant.name, copy, delta=0.0)
                if comparison is not None:
                    found.append(str(comparison.verdict) == "slower")
                    errors.append(math.log(comparison.ratio.value / trial.true_ratio(variant.name)))
        share, bias, bar = statistics.fmean(found), statistics.fmean(errors), POWER_BARS[variant.name]
        row = (
            *(variant.name, len(quiet.trials), len(found), statistics.fmean(truths), share, bias),
            *(floor(quiet), f"≥ {bar:.0%}, bias within {BIAS_BAR:.1%}"),
        )
        rows.append(_judged(POWER_COLUMNS, row, power_met))
    return Section(
        "real_power",
        "Known slow-downs, on a real machine",
        "A busy wait inside the timed region slows a case down. A wait also changes the inference behind it,"
        f" so all cases have one of {trials.WAIT_OF_ALL:.0%}, and the slower ones wait longer, by 5, 2 and"
        " 1 % of an inference; the truth is 1 plus that over the median of the equal cases of the trial."
        f" Cases are measured {quiet.manner}."
        " Each slowed case is compared with every equal one of its trial at"
        " δ = 0, found is SLOWER, and the bias is that of the estimated ratio. The noise floor is the"
        " smallest difference that the trial's rounds find in 80 of 100 tries, from the spread of its pairs.",
        POWER_COLUMNS,
        tuple(rows),
        COMMAND,
        quiet.seconds,
    )


def loop_section(lock_dir: str) -> Section:
    begun = time.monotonic()
    iteration_ns, sample_ns = iteration_cost_ns(lock_dir=lock_dir), sample_cost_ns(lock_dir=lock_dir)
    reading_ns = sleep_reading_ns(SLEEP_NS, lock_dir=lock_dir)
    low, high = SLEEP_BAR
    rows = (
        ("nothing: an iteration inside a sample", "ns", iteration_ns, None, None),
        (
            "nothing: a sample of one inference, clock reads with it",
            *("ns", sample_ns, f"< {LOOP_NS}", sample_ns < LOOP_NS),
        ),
        ("a sleep of 10 ms", "ms", reading_ns / 1e6, "10.0 to 10.2", low <= reading_ns <= high),
    )
    return Section(
        "real_loop",
        "The loop itself",
        "The null backend in a real process: what the loop costs around an inference that does nothing, and"
        " how a sleep reads. Inside a sample of many inferences an iteration is a call. A sample of one is"
        " all that the loop does for it, with two clock reads, the choice of the input and the recording: the"
        " wall time of the timed part over its samples. The others are medians.",
        ("inference", "unit", "measured", "bar", "met"),
        rows,
        COMMAND,
        time.monotonic() - begun,
    )


def rounds_per_case(part: Taken) -> float:
    return statistics.fmean(len({r.round_index for r in m.rounds}) for t in part.trials for m in _cases(t))


def disturbed_share(part: Taken) -> float:
    return statistics.fmean("disturbed" in r.flags for t in part.trials for m in _cases(t) for r in m.rounds)


def floor(part: Taken) -> float | None:
    """The median trial's noise floor."""
    floors = [
        trials.noise_floor(
            trials.paired_spread(trial), min(len({r.round_index for r in m.rounds}) for m in _cases(trial))
        )
        for trial in part.trials
    ]
    known = [value for value in floors if value is not None]
    return statistics.median(known) if known else None


def _cases(trial: Trial) -> Iterable[Measurement]:
    return trial.measurements.values()


if __name__ == "__main__":
    sys.exit(main())
