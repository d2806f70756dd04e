"""Every flag a result can carry: what it means and what to do about it, one sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.device_facts import facts_of, off_neural_engine
from reports.formatting import listing
from reports.records import CaseResult
from reports.statistics import MIN_ROUNDS, OTHER_TOOL, Summary, counted_rounds
from runners.measurement import Round

NOISY_IQR = 0.10
INVALID_IQR = 0.25
PURE_PERCENT = 99.0  # of the multiply-accumulates; below it a row is not of its one precision


@dataclass(frozen=True, slots=True)
class Flag:
    """`symbol` stands for the name in a narrow table; a `serious` flag keeps a number out of rankings."""

    name: str
    symbol: str
    meaning: str
    advice: str
    serious: bool = False

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")


_TABLE = (
    Flag(
        "simulated", "SIM",
        "The backend is simulated: the times come from a model of a device, not from a device.",
        "Use it to try the harness; never publish it as a latency.",
    ),
    Flag(
        "invalid", "INV",
        "The samples spread too far to speak of one latency (IQR over 25 % of the median).",
        "Stop other work on the machine, fix the clock frequency, and measure again.", True,
    ),
    Flag(
        "parity_failed", "PAR",
        "The artifact's outputs differ from the eager model's by more than the tolerance.",
        "Find the first step that diverges in the parity ledger before using this number.", True,
    ),
    Flag(
        "wrong_output", "OUT",
        "The runtime's outputs differ from the reference in the measuring process.",
        "Treat the number as that of another network; verify the artifact and the runtime's options.", True,
    ),
    Flag(
        "precision_mismatch", "PRE",
        "The engine runs in another precision than was asked for.",
        "Read the dtypes of the built file and export the graph in the wanted precision.", True,
    ),
    Flag(
        OTHER_TOOL, "OTH",
        "Another tool took this: outputs were not compared, and an interval is that of its own repetitions.",
        "Measure the same file with run-bundle to have both; compare it with other tools' figures only.",
    ),
    Flag(
        "mixed_protocols", "MIX",
        "Rounds of this case were taken under different protocols; only those of the last one are counted.",
        "Measure again with --fresh so that all rounds share one runtime and configuration.",
    ),
    Flag(
        "noisy", "NOI",
        "The samples spread by more than 10 % of the median (interquartile range).",
        "Look at the distribution for two modes or drift, and close other programs.",
    ),
    Flag(
        "throttled", "THR",
        "The device lowered its clocks, or called its thermal state serious, while this was measured.",
        "Cool the device or lower its clocks on purpose, and measure again.",
    ),
    Flag(
        "low_power_mode", "LPM",
        "The device was in low-power mode, which lowers its clocks.",
        "Turn it off, charge the device, and measure again with --fresh.",
    ),
    Flag(
        "off_neural_engine", "ANE",
        "The Neural Engine was allowed, and Core ML's plan has most of the estimated cost elsewhere.",
        "See in the placement which operations left it, and compare the compute units.",
    ),
    Flag(
        "disturbed", "DIS",
        "Other work competed for the device, or it stood still, and again where the round was repeated.",
        "Keep the machine idle and awake while measuring, or reserve cores for it.",
    ),
    Flag(
        "drift", "DRI",
        "The latency moved while it was measured: across rounds, in a trend or a step, or within them.",
        "Let the machine reach a steady temperature and clock, then measure again with a longer warm-up.",
    ),
    Flag(
        "not_steady", "WRM",
        "Warm-up ended at its time limit before two windows agreed.",
        "Allow a longer warm-up, or look for drift in the samples.",
    ),
    Flag(
        "not_converged", "CNV",
        "The 95 % interval is wider than the target.",
        "Allow more rounds or more time, or quiet the machine.",
    ),
    Flag(
        "few_rounds", "FEW",
        "Fewer than 5 rounds were measured, so the interval rests on little.",
        "Ask for at least 5 rounds; where the time budget ended early, the same command adds them.",
    ),
    Flag(
        "enqueue_bound", "ENQ",
        "The host takes longer to launch the work than the device to do it.",
        "Use a CUDA graph, or a larger batch, to see the device's own speed.",
    ),
    Flag(
        "transfer_bound", "TRA",
        "Moving inputs and outputs takes longer than computing.",
        "Keep data on the device, or compare compute times alone.",
    ),
    Flag(
        "batchnorms_left", "BN",
        "Batch normalizations remain in an artifact that was asked to be fused.",
        "See which ones in the parity ledger; the fused latency would be lower.",
    ),
    Flag(
        "mixed_precision", "MXP",
        "Part of the multiply-accumulates runs in another type than the one that the row is named for.",
        "The parity ledger gives the share and the nodes; compare it as what it is, a mixture.",
    ),
    Flag(
        "later_failure", "FAIL",
        "A later round of this case failed; the number rests on the rounds before it.",
        "See the failure's reason below, then run the same command again.",
    ),
)  # fmt: skip

FLAGS: dict[str, Flag] = {flag.name: flag for flag in _TABLE}


def describe(name: str) -> Flag:
    """The flag of that name; one that a runner made up is shown as it is, never dropped."""
    return FLAGS.get(name) or Flag(
        name, name[:3].upper(), f"The runner reported “{name}”.", "See the runner's documentation."
    )


def flags(result: CaseResult, summary: Summary) -> tuple[Flag, ...]:
    """All flags of a measured case, serious ones first: from its samples, its rounds and its artifact."""
    found = [*_sample_flags(summary), *_round_flags(result), *_artifact_flags(result)]
    return ordered(describe(name) for name in found)


def ordered(found: Iterable[Flag]) -> tuple[Flag, ...]:
    """Each flag once, in the table's order, unknown ones last."""
    places = {name: place for place, name in enumerate(FLAGS)}
    unique = {flag.name: flag for flag in found}
    return tuple(sorted(unique.values(), key=lambda f: (places.get(f.name, len(places)), f.name)))


def doubts(found: Iterable[Flag]) -> str:
    """The serious ones by name, each once: `drift and invalid`."""
    return listing(sorted({flag.label for flag in found if flag.serious}))


def is_simulated(result: CaseResult) -> bool:
    """A backend that only imitates a device; runners name such backends and clocks for what they are."""
    clocks = {r.protocol.clock for r in result.rounds}
    names = (result.case.backend, result.case.device, *clocks)
    return any("simulated" in name or name == "null" for name in names)


def _sample_flags(summary: Summary) -> Sequence[str]:
    conditions = {
        "invalid": summary.iqr_ratio > INVALID_IQR,
        "noisy": NOISY_IQR < summary.iqr_ratio <= INVALID_IQR,
        "drift": summary.drift.found,
        "not_steady": summary.unsteady_rounds > 0,
        "not_converged": not summary.converged,
        "few_rounds": summary.rounds < MIN_ROUNDS,
    }
    return [name for name, holds in conditions.items() if holds]


def _round_flags(result: CaseResult) -> list[str]:
    """What the runners reported; a disturbed round that was repeated cleanly no longer counts."""
    measurement = result.measurement
    rounds = counted_rounds(measurement.rounds) if measurement else []
    found = [name for r in rounds for name in r.flags]
    found += _part_flags(rounds)
    told = facts_of(rounds)
    if told and off_neural_engine(told, rounds[0].protocol.compute_unit):
        found.append("off_neural_engine")
    if result.other_protocol_rounds:
        found.append("mixed_protocols")
    if result.failure and rounds:
        found.append("later_failure")
    if is_simulated(result):
        found.append("simulated")
    return found


def _part_flags(rounds: Sequence[Round]) -> list[str]:
    """From the medians of what was timed beside the samples, where anything was."""
    if not any(r.parts for r in rounds):
        return []
    compute_ns = _median_ns([r.samples_ns / r.loop_count for r in rounds])
    medians_ns = {
        name: _median_ns([r.parts[name] / r.loop_count for r in rounds if name in r.parts])
        for name in ("enqueue", "h2d", "d2h")
    }
    conditions = {
        "enqueue_bound": medians_ns["enqueue"] >= compute_ns,
        "transfer_bound": any(medians_ns[name] > compute_ns for name in ("h2d", "d2h")),
    }
    return [name for name, holds in conditions.items() if holds]


def _median_ns(rounds_ns: Sequence[npt.NDArray[np.float64]]) -> float:
    """NaN without a value: it exceeds nothing."""
    return float(np.median(np.concatenate(rounds_ns))) if rounds_ns else math.nan


def _artifact_flags(result: CaseResult) -> list[str]:
    artifact = result.artifact
    if artifact is None:
        return []
    found = []
    if artifact.parity and not artifact.parity.passed:
        found.append("parity_failed")
    if result.case.fused and artifact.batchnorms_left:
        found.append("batchnorms_left")
    share = artifact.facts.get(f"macs_{artifact.precision}_percent")
    if isinstance(share, float) and share < PURE_PERCENT:
        found.append("mixed_precision")
    return found
