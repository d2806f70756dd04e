"""Backends times precisions as one matrix: a cell that its backend cannot have is left to those that can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from models.spec import Case
from runners import backend_info


def possible(cases: Sequence[Case]) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """The cases without those that another backend of the plan runs in a precision that theirs has not, and a
    sentence for each backend and precision of these. What no backend has stays, to be refused by name.
    """
    run = {_cell(case): case.backend for case in cases if _runs(case) and backend_info(case.backend).real}
    left: dict[tuple[str, str], list[str]] = defaultdict(list)
    kept = []
    for case in cases:
        other = run.get(_cell(case))
        if _runs(case) or other is None:
            kept.append(case)
        else:
            left[case.backend, case.precision].append(other)
    notes = [
        f"left out: '{backend}' does not run in {precision}, which {', '.join(dict.fromkeys(others))} does"
        for (backend, precision), others in left.items()
    ]
    return tuple(kept), tuple(notes)


def _cell(case: Case) -> Case:
    """The case without what follows from its backend."""
    return replace(case, backend="", device="", target="", compute_unit="", runtime=())


def _runs(case: Case) -> bool:
    return case.precision in backend_info(case.backend).precisions
