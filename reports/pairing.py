"""Which case of one run is compared with which of another: the same one, or what was asked for by name."""

from __future__ import annotations

from collections.abc import Sequence

from models.spec import Case
from reports import formatting as fmt
from reports.records import CaseResult
from reports.tables import settings, short_name

Pairs = Sequence[tuple[str, CaseResult, CaseResult]]

_NAMED = 3  # cases that a message names
# what two cases that were asked for by name may differ in, apart from the model: the first that pairs any
_VARYING = ((), ("fusion",), ("backend", "device", "runtime options", "target"), ("precision",), ("threads",))


class CompareError(ValueError):
    """Two runs that cannot be compared; the message says why and what would help."""


def matched(a: Sequence[CaseResult], b: Sequence[CaseResult]) -> Pairs:
    """Cases that differ in what was asked for: one with one, or those whose other settings are the same.

    Raises CompareError where a case would have several partners.
    """
    if len(a) == len(b) == 1:
        return [(_pair_label(a[0].case, b[0].case), a[0], b[0])]
    for varying in _VARYING:
        sides = [_by_settings(side, without=varying) for side in (a, b)]
        common = [key for key in sides[0] if key in sides[1]]
        if not common:
            continue
        several = next((side[key] for side in sides for key in common if len(side[key]) > 1), None)
        if several:
            names = fmt.listing([case_name(r.case) for r in several[:_NAMED]])
            raise CompareError(f"{names} would share one partner: name fewer, by more words of the label")
        found = [(sides[0][key][0], sides[1][key][0]) for key in common]
        return [(_pair_label(x.case, y.case), x, y) for x, y in found]
    return []


def case_name(case: Case) -> str:
    """The case's label; another tool's benchmark has neither resolution nor precision."""
    return case.label if case.model.resolution else " ".join([case.model.name, case.backend])


def by_id(a: Sequence[CaseResult], b: Sequence[CaseResult]) -> Pairs:
    other = {r.case.id: r for r in b}
    return [(case_name(r.case), r, other[r.case.id]) for r in a if r.case.id in other]


def _by_settings(
    results: Sequence[CaseResult], *, without: Sequence[str]
) -> dict[tuple[str, ...], list[CaseResult]]:
    """By everything but the model (and `without`); cases that differ in `without` alone keep their model."""
    found: dict[tuple[str, ...], list[CaseResult]] = {}
    for result in results:
        words = tuple(text for name, text in settings(result.case).items() if name not in without)
        key = (*words, result.case.model.name) if without else words
        found.setdefault(key, []).append(result)
    return found


def _pair_label(a: Case, b: Case) -> str:
    """`ncb / bottleneck 14x14x384 fp32 onnxruntime`, or both labels in full where more differs."""
    if a == b:
        return case_name(a)
    rest_a, rest_b = (case_name(c).removeprefix(c.model.name).strip() for c in (a, b))
    if rest_a == rest_b:
        return f"{short_name(a)} / {short_name(b)} {rest_a}"
    return f"{case_name(a)} / {case_name(b)}"
