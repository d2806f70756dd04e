"""What a gate comes to: a comparison with a state for every case, one sentence, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from commands import NOT_TIMED, OK, REGRESSED, UNDECIDED, UsageError
from commands.references import Reference
from reports import formatting as fmt
from reports.compared import Compared, LeftOut, Side, compare_sides, rounds_text, settled_by
from reports.pairing import CompareError
from reports.records import StoredRun
from reports.regression import State, judge

# cases that a gate has no number for, and what that makes of it
FAILED, OPEN, ELSEWHERE = ("failed",), ("no_file", "mismatched", "unmeasured"), ("untimed",)


@dataclass(frozen=True)
class GateResult:
    """`run` is what a report is written of; `run_id` that of the run in which both were measured, if any."""

    compared: Compared
    bound: float
    sentence: str
    exit_code: int
    run: StoredRun
    run_id: int | None = None

    @property
    def title(self) -> str:
        return f"Gate: {self.compared.a.name} against {self.compared.b.name}"


def stored_result(base: Reference, now: Reference, *, bound: float, force: bool) -> GateResult:
    """From the numbers of two stored runs. Raises UsageError where they cannot be compared."""
    if base.origin == now.origin:
        raise UsageError(
            f"{base.name} is the run to judge as well: run the suite again first, or name an earlier BASE"
        )
    sides = [Side(one.name, one.run.info, one.results) for one in (now, base)]
    chosen = bool(base.cases or now.cases)
    try:
        compared = compare_sides(*sides, delta=bound, chosen=chosen, force=force)
    except CompareError as error:
        raise UsageError(str(error)) from None
    return judged(compared, bound, now.run)


def judged(compared: Compared, bound: float, run: StoredRun, *, run_id: int | None = None) -> GateResult:
    """With a state for every case, whose ratios are judged as one family."""
    judgements = judge({place: row.comparison for place, row in enumerate(compared.cases)}, bound)
    cases = tuple(
        replace(
            row,
            comparison=replace(row.comparison, p_value=found.p_value, rounds_needed=found.rounds_needed),
            state=str(found.state),
            advice=settled_by(found.rounds_needed) if found.state is State.UNDECIDED else "",
        )
        for row, found in zip(compared.cases, judgements.values(), strict=True)
    )
    question = (
        f"Time of {compared.a.name} over that of {compared.b.name}; a regression is beyond {1.0 + bound:g}×."
    )
    settled = replace(compared, cases=cases, band=(1.0, 1.0 + bound), question=question)
    states = Counter(found.state for found in judgements.values())
    code = _exit_code(states, settled.left_out)
    return GateResult(settled, bound, _sentence(settled, states, bound), code, run, run_id)


def _exit_code(states: Counter[State], left_out: Sequence[LeftOut]) -> int:
    """REGRESSED is what is slower, and nothing else: what could not be measured is another matter."""
    keys = {one.key for one in left_out}
    if states[State.REGRESSED]:
        return REGRESSED
    if states[State.UNDECIDED] or keys & {*FAILED, *OPEN}:
        return UNDECIDED
    return NOT_TIMED if keys & set(ELSEWHERE) else OK


def _sentence(compared: Compared, states: Counter[State], bound: float) -> str:
    """`REGRESSED: 1 of 4 cases is slower by more than 1.0 %: block/ncb … 1.014× [1.011, 1.017].`"""
    margin = fmt.percent(bound)
    worst = [row for row in compared.cases if row.state == State.REGRESSED]
    if worst:
        row = max(worst, key=lambda one: one.ratio.value)
        ratio = fmt.ratio_interval(row.ratio.value, row.ratio.low, row.ratio.high)
        of = f"{len(worst)} of {fmt.count(len(compared.cases), 'case')}"
        return f"REGRESSED beyond {margin}: {of}, most of all {row.label}: {ratio}."
    counts = {one.key: len(one.labels) for one in compared.left_out}
    if failed := sum(counts.get(key, 0) for key in FAILED):
        return (
            f"FAILED: {fmt.count(failed, 'case')} could not be measured; no other regressed beyond {margin}."
        )
    undecided = states[State.UNDECIDED] + sum(counts.get(key, 0) for key in OPEN)
    if undecided:
        needed = [row.comparison.rounds_needed for row in compared.cases if row.state == State.UNDECIDED]
        most = max((n for n in needed if n is not None), default=None)
        more = f"; {rounds_text(most)} would settle all (--rounds)" if most is not None else ""
        return f"UNDECIDED at {margin}: {fmt.count(undecided, 'case')}{more}."
    same = counts.get("same_file", 0)
    parts = [f"{states[State.PASSED]} measured"] if states[State.PASSED] else []
    parts += [f"{same} of the very same file"] if same else []
    if not parts:
        return "NOT TIMED: the files are built, and the device that times them is not here."
    return f"PASSED: no case is slower by more than {margin} ({', '.join(parts)})."
