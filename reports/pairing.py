"""Which case of one run is compared with which of another: the same one, or what was asked for by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.spec import Case, ModelSpec
from reports import formatting as fmt
from reports.records import CaseResult
from reports.row_labels import short_name
from reports.tables import settings

Pairs = Sequence[tuple[str, CaseResult, CaseResult]]

_NAMED = 3  # cases that a message names
_PLACE = ("backend", "device", "runtime options", "target")
_OF_ONE_PROTOCOL = {"fusion", "precision", "shape", "build options"}  # settings that make no other quantity
# what two cases that were asked for by name may differ in, apart from the model: the first that pairs any
_VARYING = (
    (),
    ("fusion",),
    ("compute unit",),
    _PLACE,
    (*_PLACE, "compute unit"),
    ("precision",),
    ("threads",),
)


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


def nothing_in_common(a: Sequence[CaseResult], b: Sequence[CaseResult], *, names: tuple[str, str]) -> str:
    """Why no case of A pairs with one of B: in what the nearest two differ, and what would pair them."""
    said = f"{names[0]} and {names[1]} have no case in common"
    nearest = _nearest([r.case for r in a], [r.case for r in b])
    if nearest is None:
        first = [f"'{case_name(side[0].case)}'" if side else "nothing" for side in (a, b)]
        has = f"{names[0]} has {first[0]}, {names[1]} {first[1]}"
        return f"{said} ({has}): name the cases to compare, as in latest:ncb, or run the same suite twice"
    one, other = nearest
    differing = _differing(settings(one), settings(other))
    told = fmt.listing([f"{name} ({x or 'none'} and {y or 'none'})" for name, (x, y) in differing.items()])
    return (
        f"{said}: '{case_name(one)}' of {names[0]} and '{case_name(other)}' of {names[1]} differ in {told}."
        f" {_advice(nearest, differing, names)}"
    )


def _advice(
    nearest: tuple[Case, Case], differing: Mapping[str, tuple[str, str]], names: Sequence[str]
) -> str:
    """By which words the two sides are named, where cases that differ so are compared at all."""
    said = []
    for place, (case, name) in enumerate(zip(nearest, names, strict=True)):
        values = [both[place] for both in differing.values()]
        words = " ".join(x for x in values if x and set(x.split()) <= set(case.label.split()))
        said += [f"':{words}' behind {name}"] if words else []
    same = set(differing) <= _OF_ONE_PROTOCOL
    force = "" if same else " and add --force, as their protocols or batch sizes differ"
    if not said or not any(set(differing) <= set(varying) for varying in _VARYING):
        return f"Run the same suite twice, or name one case of either by words of its label{force}."
    return f"Where that is what is to be compared, write {fmt.listing(said)}{force}."


def _nearest(a: Sequence[Case], b: Sequence[Case]) -> tuple[Case, Case] | None:
    """Two cases of one network that differ in as few settings as any two; None without a common network."""
    words = {case: settings(case) for case in (*a, *b)}
    of_model: dict[ModelSpec, list[Case]] = {}
    for case in b:
        of_model.setdefault(replace(case.model, resolution=0), []).append(case)
    pairs = ((x, y) for x in a for y in of_model.get(replace(x.model, resolution=0), ()))
    return min(pairs, key=lambda pair: len(_differing(words[pair[0]], words[pair[1]])), default=None)


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The settings that differ, by name, each with both values."""
    return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


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
