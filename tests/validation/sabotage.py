"""A runtime that cheats or breaks, in real measuring processes: is each flagged or refused?"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reports.statistics import converged, summarize
from runners import simulated, suite
from runners.measurement import Failure, Job, Measurement, Round, Timing
from tests.validation.document import Cell, Section


@dataclass(frozen=True, slots=True)
class Sabotage:
    """Settings of a simulation; `expected` is the failure's kind or the flag that has to answer them."""

    name: str
    expected: str
    settings: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"


SABOTAGES = (
    Sabotage("hands out one stored output for all inputs", "wrong_output", {"fault": "cached_output"}),
    Sabotage(
        "begins to hand out a stored output once it is warm",
        "wrong_output",
        {"fault": "cached_output", "fault_after": 12},
    ),
    Sabotage("returns wrong outputs", "wrong_output", {"fault": "wrong_output"}),
    Sabotage(
        "returns wrong outputs after 12 inferences",
        "wrong_output",
        {"fault": "wrong_output", "fault_after": 12},
    ),
    Sabotage("returns NaN", "wrong_output", {"fault": "nan_output"}),
    Sabotage("returns outputs of another shape", "wrong_output", {"fault": "wrong_shape"}),
    Sabotage(
        "slows down by 10 % half way through the timed part", "drift", {"step_after": 102, "step_ratio": 1.1}
    ),
    Sabotage(
        "slows down by 3 % half way through the timed part", "drift", {"step_after": 102, "step_ratio": 1.03}
    ),
    Sabotage("grows slower by 10 % per second", "drift", {"drift_per_second": 0.1}),
    Sabotage("sets its clock back by a second", "infer", {"fault": "clock_back", "fault_after": 60}),
    Sabotage(
        "sets its clock forward by half a second, once in a round",
        "disturbed",
        {"fault": "clock_forward", "fault_after": 102},
    ),
    Sabotage("runs fp32 where fp16 is asked for", "precision_mismatch", {"runs_precision": "fp32"}, "fp16"),
)


def section(*, command: str) -> Section:
    begun = time.monotonic()
    rows = [_row(sabotage) for sabotage in SABOTAGES]
    return Section(
        "sabotage",
        "Sabotage",
        "A simulated runtime that cheats or breaks, measured in real processes. `answer` is the flag on the"
        " result or the kind of the failure that refused it.",
        ("the runtime", "expected", "answer", "met"),
        tuple(rows),
        command,
        time.monotonic() - begun,
    )


def _row(sabotage: Sabotage) -> tuple[Cell, ...]:
    answers = answer(sabotage)
    return sabotage.name, sabotage.expected, ", ".join(answers) or "nothing", sabotage.expected in answers


def answer(sabotage: Sabotage) -> list[str]:
    """The kind of its failure, or the flags of its measurement."""
    policy = Timing(max_rounds=6)
    with tempfile.TemporaryDirectory() as folder:
        job = _job(sabotage, Path(folder), policy)
        outcomes: list[Round | Failure] = []
        suite.measure(
            {job.case_id: job},
            policy,
            converged=lambda rounds: converged(rounds, policy.target),
            commit=lambda case_id, outcome: outcomes.append(outcome),
        )
    failures = [outcome.kind for outcome in outcomes if isinstance(outcome, Failure)]
    return failures or _flags([outcome for outcome in outcomes if isinstance(outcome, Round)], policy)


def _job(sabotage: Sabotage, folder: Path, policy: Timing) -> Job:
    described = simulated.Simulation(
        median_ns=5e6, sigma=0.01, between_sigma=0.002, seed=1, **sabotage.settings
    )
    files = simulated.write(folder, described)
    job = Job("sabotaged", "simulated", "cpu", 1, "", sabotage.precision, files.path, files.sha256,
              files.tensors, 1e-3, policy, 0, 0)  # fmt: skip
    return replace(job, options={"lock_dir": str(folder)})


def _flags(rounds: list[Round], policy: Timing) -> list[str]:
    summary = summarize(Measurement(rounds[0].protocol, tuple(rounds)), target=policy.target)
    found = {flag for taken in rounds for flag in taken.flags}
    return sorted(found | ({"drift"} if summary.drift.found else set()))
