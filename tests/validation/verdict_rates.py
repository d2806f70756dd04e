"""How often a verdict is wrong where there is no difference, and right where there is one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reports.ranking import order
from reports.verdicts import Comparison, Verdict, adjust, compare
from runners.measurement import Timing
from tests.validation import instrument
from tests.validation.document import Cell, Section
from tests.validation.worlds import STATIONARY, Wandering, World, world

FALSE_AT_0, FALSE_AT_DELTA = 0.068, 0.01
BIAS = 0.002
FOUND = {1.05: 0.99, 1.02: 0.95, 1.01: 0.80}
FAMILY = 40

WANDERING = world("machine that wanders (0.97 %, neighbours correlate by 0.57)", between_sigma=0.0)
OWN = world("the same machine, and 0.65 % between processes", between_sigma=0.0065)
ALONE = STATIONARY[0]  # 0.97 % between processes, none of it shared by neighbours
CALM = world("calm: 0.35 % between processes, 1 % inside", between_sigma=0.0035, sigma=0.01)


@dataclass(frozen=True, slots=True)
class Pair:
    """The comparison of two cases of one suite, the second over the first, at delta = 0 and at 1 %."""

    plain: Comparison
    margin: Comparison


def pair(noise: World, policy: Timing, ratio: float, seed: int) -> Pair:
    """A suite of two cases whose true ratio is known."""
    first, second = noise.seeded(seed, 1), noise.seeded(seed, 2).slower(ratio)
    found = instrument.measure({"first": _moved(first, seed), "second": _moved(second, seed)}, policy)
    plain, margin = (
        compare(found["second"], found["first"], delta=delta, paired=True) for delta in (0.0, 0.01)
    )
    assert plain is not None
    assert margin is not None
    return Pair(plain, margin)


def same_artifact(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    begun = time.monotonic()
    policy = instrument.default_timing()
    rows = []
    for noise in (*STATIONARY, WANDERING):
        found = _pairs(noise, policy, 1.0, repetitions, processes)
        false, beyond = (sum(c.differs for c in side) for side in _sides(found))
        rows.append(
            (
                noise.name,
                len(found),
                false,
                100 * false / len(found),
                beyond,
                100 * beyond / len(found),
                sum(p.margin.verdict is Verdict.EQUIVALENT for p in found),
                _rounds(found),
                false <= FALSE_AT_0 * len(found) and beyond <= FALSE_AT_DELTA * len(found),
            )
        )
    return Section(
        "same_artifact",
        "The same thing under two names",
        "Two cases of equal latency in one suite with the default budgets, compared in pairs of rounds: every"
        f" FASTER or SLOWER is false. Bars: at most {100 * FALSE_AT_0:g} % at δ = 0 and"
        f" {100 * FALSE_AT_DELTA:g} % at δ = 1 %.",
        ("noise", "compared", "false at δ = 0", "%", "false at δ = 1 %", "%", "equivalent at δ = 1 %",
         "pairs, mean", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )  # fmt: skip


def power(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    """A true difference of 5, 2 and 1 % at several levels of noise."""
    begun = time.monotonic()
    default = instrument.default_timing()
    five = replace(default, min_rounds=5)
    rows = [
        _power_row(
            noise, policy, ratio, repetitions if has_bar else repetitions // 4, processes, has_bar=has_bar
        )
        for noise, policy, has_bar in (
            (CALM, default, True),
            (WANDERING, default, True),
            (OWN, default, False),
            (ALONE, default, False),
            (WANDERING, five, False),
        )
        for ratio in FOUND
    ]
    return Section(
        "power",
        "A known difference",
        "Two cases in one suite, the second slower by a known ratio. `found` counts SLOWER at δ = 0. The"
        " bars are for the default budgets, where rounds end when each case is within ±1 %; the rows with 5"
        " least rounds say what suites that allow so few can tell apart. `bias` is the mean ratio over the"
        f" true one, minus 1; at most {100 * BIAS:g} % everywhere. The rows whose processes differ by 0.65 %"
        f" and more (`{ALONE.name}`: by 0.97 %), none of it in both cases of a pair, say what whole rounds do"
        " not tell apart: 1 %. Turns are for that.",
        ("noise", "least rounds", "true ratio", "compared", "found", "%", "bar, %", "faster (wrong)",
         "bias, %", "pairs, mean", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )  # fmt: skip


def family(repetitions: int, *, command: str, processes: int | None = None) -> Section:
    """Forty equal cases in one suite: does any win?"""
    begun = time.monotonic()
    found = instrument.over_all(partial(_equal_cases, STATIONARY[0]), range(repetitions), processes=processes)
    labels = (
        f"{FAMILY - 1} cases against the first, each alone, δ = 0",
        f"{FAMILY - 1} cases against the first, as one family, δ = 0",
        f"all {FAMILY * (FAMILY - 1) // 2} pairs as one family (a ranking), δ = 0",
        f"all {FAMILY * (FAMILY - 1) // 2} pairs as one family (a ranking), δ = 1 %",
    )
    rows = []
    for place, label in enumerate(labels):
        counts = np.array([false[place] for false in found])
        some = int(np.count_nonzero(counts))
        met = None if place == 0 else some <= FALSE_AT_0 * len(found)
        rows.append((label, len(found), some, 100 * some / len(found), float(counts.mean()), met))
    return Section(
        "family",
        f"{FAMILY} equal cases",
        f"A suite of {FAMILY} cases of equal latency. A false winner is a case that is told apart from one"
        f" that it equals. Bar: at most {100 * FALSE_AT_0:g} % of the suites have any.",
        ("comparison", "suites", "suites with a false winner", "%", "false verdicts per suite", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )


def _equal_cases(noise: World, seed: int) -> tuple[int, int, int, int]:
    """False verdicts of one suite, in the order of the rows of `family`."""
    worlds = {str(i): noise.seeded(seed, i) for i in range(FAMILY)}
    found = instrument.measure(worlds, instrument.default_timing())
    against = {
        name: compare(found[name], found["0"], delta=0.0, paired=True) for name in worlds if name != "0"
    }
    alone = {name: comparison for name, comparison in against.items() if comparison}
    return (
        sum(c.differs for c in alone.values()),
        sum(c.differs for c in adjust(alone).values()),
        *(int(np.count_nonzero(order(found, delta=delta).signs)) // 2 for delta in (0.0, 0.01)),
    )


def _moved(one: World, seed: int) -> World:
    """With the wandering machine of this suite, where the world is one of those."""
    wanders = one.name in (WANDERING.name, OWN.name)
    return replace(one, machine=Wandering((seed, 3))) if wanders else one


def _pairs(noise: World, policy: Timing, ratio: float, repetitions: int, processes: int | None) -> list[Pair]:
    return instrument.over_all(partial(pair, noise, policy, ratio), range(repetitions), processes=processes)


def _sides(found: Sequence[Pair]) -> tuple[list[Comparison], list[Comparison]]:
    return [p.plain for p in found], [p.margin for p in found]


def _rounds(found: Sequence[Pair]) -> float:
    return sum(p.plain.ratio.pairs for p in found) / len(found)


def _power_row(
    noise: World, policy: Timing, ratio: float, repetitions: int, processes: int | None, *, has_bar: bool
) -> tuple[Cell, ...]:
    found = _pairs(noise, policy, ratio, repetitions, processes)
    slower = sum(p.plain.verdict is Verdict.SLOWER for p in found)
    wrong = sum(p.plain.verdict is Verdict.FASTER for p in found)
    bias = math.exp(sum(math.log(p.plain.ratio.value) for p in found) / len(found)) / ratio - 1
    unbiased = abs(bias) <= BIAS
    return (
        noise.name,
        policy.min_rounds,
        ratio,
        len(found),
        slower,
        100 * slower / len(found),
        100 * FOUND[ratio] if has_bar else None,
        wrong,
        100 * bias,
        _rounds(found),
        unbiased and (not has_bar or slower >= FOUND[ratio] * len(found)),
    )
