"""Finding the sweeps of a run: which of its cases differ in swept settings alone, and what each is called."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from models.spec import Case
from reports import sweep_protocol
from reports.records import CaseResult
from reports.row_labels import short_name
from reports.sweep import Setting, Sweep, setting_of
from reports.tables import Row, RunTable, settings

_SWEPT: Final = ("shape", "batch", "threads", "precision")  # by their names in `settings`
_UNSAID: Final = ("", "fused", "cpu")


Group = tuple[Case, list[list[Row]]]  # what its cases share, and those that may share axes


def grouped(table: RunTable) -> list[Group]:
    """The measured cases that differ in swept settings alone, in plan order."""
    places = {case_id: place for place, case_id in enumerate(table.info.case_ids)}
    groups: dict[Case, list[Row]] = defaultdict(list)
    for row in sorted(table.rows, key=lambda row: places.get(row.case.id, len(places))):
        if _is_placed(row.case):
            groups[_base(row.case)].append(row)
    return [(base, sweep_protocol.alike(rows)) for base, rows in groups.items() if len(rows) > 1]


def sweeps(table: RunTable, found: Sequence[Group]) -> list[Sweep]:
    """Every sweep of the groups: what has two measured values at least along some axis."""
    gaps = _gaps(table)
    every = [
        _sweep(part, gaps.get(base, {}) if place == 0 else {})
        for base, parts in found
        for place, part in enumerate(parts)
    ]
    return _labelled([sweep for sweep in every if any(sweep.curves(axis) for axis in sweep.varied)])


def splits(found: Sequence[Group]) -> list[str]:
    """One sentence for every model whose cases do not share their axes, as their protocols differ."""
    return [
        f"{short_name(base)} is in {len(parts)} parts that share no axis: their protocols differ in"
        f" {', '.join(sweep_protocol.differences(parts))}."
        for base, parts in found
        if len(parts) > 1
    ]


def _is_placed(case: Case) -> bool:
    """A network or block with a square input: neither another tool's benchmark nor a machine's peak."""
    numbers = (case.batch_size, case.model.resolution, case.threads)
    return min(numbers) >= 1 and not case.model.name.startswith("peak/")


def _base(case: Case) -> Case:
    """What all cases of a sweep share."""
    same = replace(case, batch_size=0, threads=0, precision="", calibration="")
    return replace(same, model=replace(case.model, resolution=0))


def _gaps(table: RunTable) -> dict[Case, dict[Setting, str]]:
    found: dict[Case, dict[Setting, str]] = defaultdict(dict)
    for result in (*table.failures, *table.untimed, *table.pending):
        if not result.rounds and _is_placed(result.case):
            found[_base(result.case)][setting_of(result.case)] = _reason(result)
    return found


def _reason(result: CaseResult) -> str:
    if result.untimed:
        return "built, not timed"
    return result.failure.kind.replace("_", " ") if result.failure else "not measured"


def _sweep(rows: Sequence[Row], gaps: Mapping[Setting, str]) -> Sweep:
    shared = _shared(rows[0].case)
    title = ", ".join(text for text in shared.values() if text not in _UNSAID)
    frame = f"{sweep_protocol.rest_of(rows[0])} {sorted(shared.items())}"
    return Sweep("", frame, title, {setting_of(row.case): row for row in rows}, gaps)


def _labelled(found: Sequence[Sweep]) -> list[Sweep]:
    """With the model's short name and, where several have it, what tells them apart, or else a number."""
    names = [" ".join((short_name(sweep.case), *_distinction(sweep, found))) for sweep in found]
    uses = Counter(names)
    number: Counter[str] = Counter()
    labels = []
    for name in names:
        number[name] += 1
        labels.append(f"{name} ({number[name]})" if uses[name] > 1 else name)
    return [replace(sweep, label=label) for sweep, label in zip(found, labels, strict=True)]


def _distinction(sweep: Sweep, every: Sequence[Sweep]) -> list[str]:
    name = short_name(sweep.case)
    rivals = [_facts(other.case) for other in every if short_name(other.case) == name]
    return [
        text
        for fact, text in _facts(sweep.case).items()
        if text and any(other.get(fact) != text for other in rivals)
    ]


def _facts(case: Case) -> dict[str, str]:
    chosen = {name: f"{name}={value}" for name, value in case.model.options}
    return {**_shared(case), **chosen, "name": case.model.name, "weights": case.model.weights[:19]}


def _shared(case: Case) -> dict[str, str]:
    return {name: text for name, text in settings(case).items() if name not in _SWEPT}
