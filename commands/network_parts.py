"""Networks that are measured whole and in parts: which cases are whose parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from commands import UsageError
from models.errors import ModelError
from models.parts import PARTS, parts_of
from models.spec import Case, ModelSpec

if TYPE_CHECKING:
    from commands.config import Suite


@cache
def parts_of_network(spec: ModelSpec) -> Sequence[tuple[str, ModelSpec]]:
    """(module path, the part alone) in order; it loads torch. Raises UsageError for what has no parts."""
    try:
        return parts_of(spec)
    except ModelError as error:
        raise UsageError(f"parts: {error}") from None


def parts_of_cases(suite: Suite, cases: Sequence[Case]) -> Mapping[str, Sequence[tuple[str, str]]]:
    """(module path, the part's case id) by the case id of every network whose parts are in the plan.

    A part's case differs from its network's in the model alone.
    """
    if not any(matrix.parts for matrix in suite.matrix):
        return {}
    ids = {case.id for case in cases}
    found = {}
    for whole in (case for case in cases if case.model.name in PARTS):
        parts = [(path, replace(whole, model=spec).id) for path, spec in parts_of_network(whole.model)]
        if ids.issuperset(part_id for _, part_id in parts):
            found[whole.id] = parts
    return found
