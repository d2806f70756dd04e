"""What a step of the conversion saves: a case with it against the same case without, paired by round.

Such a step is fusion, and each form for deployment. All that are of one kind are judged as one family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from converters.artifact import Artifact, Parity
from models.spec import WITHOUT_FORM, Case, forms_left_out, replaced_fact
from reports import formatting as fmt
from reports.compared import settled_by
from reports.tables import Row, RunTable, settings
from reports.verdicts import Comparison, Ratio, Verdict, adjust, compare

FUSION = "fusion"
_FUSED = "fused"  # its step in the ledger
_IN_WORDS = {
    Verdict.SLOWER: "saves time",
    Verdict.FASTER: "costs time",
    Verdict.EQUIVALENT: "no difference",
    Verdict.INCONCLUSIVE: "undecided",
}


@dataclass(frozen=True)
class Saving:
    """`row` is the case with the steps in `names`, `without` the one that lacks them.

    `names` are forms for deployment, or fusion alone; `time` is that of `without` over that of `row`. `label`
    is unique among savings of the same names.
    """

    names: tuple[str, ...]
    label: str
    row: Row
    without: Row
    time: Comparison

    @property
    def what(self) -> str:
        return fmt.listing(list(self.names))

    @property
    def ratio(self) -> Ratio:
        return self.time.ratio

    @property
    def ratio_text(self) -> str:
        return fmt.ratio_interval(self.ratio.value, self.ratio.low, self.ratio.high)

    @property
    def verdict(self) -> str:
        return _IN_WORDS[self.time.verdict]

    @property
    def advice(self) -> str:
        """What an undecided one needs; empty for the others."""
        undecided = self.time.verdict is Verdict.INCONCLUSIVE
        return settled_by(self.time.rounds_needed) if undecided else ""

    @property
    def serious(self) -> bool:
        """Is one of the two numbers in doubt?"""
        return self.row.serious or self.without.serious

    @property
    def replaced(self) -> int | None:
        """Modules that are in another form, or layers that fusion folded away; None where nobody counted."""
        artifact = self.row.result.artifact
        if artifact is None:
            return None
        if self.names == (FUSION,):
            return sum(artifact.folded.values())
        counts = [artifact.facts.get(replaced_fact(name)) for name in self.names]
        known = [int(count) for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def parity(self) -> Parity | None:
        """How far the outputs are off after these steps: the worst of them."""
        artifact = self.row.result.artifact
        names = {_FUSED if name == FUSION else name for name in self.names}
        steps = [step.parity for step in artifact.steps if step.name in names] if artifact else []
        return max((p for p in steps if p is not None), key=lambda p: p.max_relative, default=None)

    @property
    def operators(self) -> tuple[int, int] | None:
        """Operators of the files, without and with; None where one is not known."""
        files = (self.without.result.artifact, self.row.result.artifact)
        without, with_it = (sum(file.op_counts.values()) if file else 0 for file in files)
        return (without, with_it) if without and with_it else None

    @property
    def same_operators(self) -> bool:
        """Do both files have the same operators, so many of each kind?"""
        files = (self.without.result.artifact, self.row.result.artifact)
        without, with_it = (_counts(file) for file in files)
        return bool(without) and without == with_it


def fusion_savings(table: RunTable) -> list[Saving]:
    """Every case measured fused and unfused under one protocol, the largest gain first."""
    return _savings(table, fusion=True)


def form_savings(table: RunTable) -> list[Saving]:
    """Every case measured with and without forms for deployment; form by form, in the order of the plan."""
    found = _savings(table, fusion=False)
    places = {case_id: place for place, case_id in enumerate(table.info.case_ids)}
    first: dict[tuple[str, ...], int] = {}
    for saving in found:
        place = places.get(saving.without.case.id, len(places))
        first[saving.names] = min(place, first.get(saving.names, place))
    return sorted(found, key=lambda saving: first[saving.names])


def documents(table: RunTable) -> dict[str, Any]:
    """For JSON: `savings`, all of them; nothing for a run that measured no case without a step."""
    found = [*fusion_savings(table), *form_savings(table)]
    return {"savings": [_document(saving) for saving in found]} if found else {}


def counterpart(case: Case) -> tuple[tuple[str, ...], Case] | None:
    """What a case leaves out, and the case that does not; None for one that leaves nothing out."""
    if names := forms_left_out(case.build):
        build = tuple((name, value) for name, value in case.build if name != WITHOUT_FORM)
        return names, replace(case, build=build)
    return None if case.fused else ((FUSION,), replace(case, fused=True))


def _savings(table: RunTable, *, fusion: bool) -> list[Saving]:
    rows = {row.case.id: row for row in table.rows}
    found = []
    for without in table.rows:
        names, case = counterpart(without.case) or ((), without.case)
        row = rows.get(case.id)
        if not names or row is None or (names == (FUSION,)) != fusion:
            continue
        if row.measurement.protocol.id != without.measurement.protocol.id:
            continue
        time = compare(without.measurement, row.measurement, paired=True)
        if time is not None:
            found.append(Saving(names, row.label, row, without, time))
    judged = adjust({place: saving.time for place, saving in enumerate(found)})
    told = [_told(saving, found) for saving in found]
    savings = [
        replace(saving, label=label, time=judged[place])
        for place, (saving, label) in enumerate(zip(found, told, strict=True))
    ]
    return sorted(savings, key=lambda saving: -saving.ratio.value)


def _document(saving: Saving) -> dict[str, Any]:
    parity, operators = saving.parity, saving.operators
    return {
        "steps": list(saving.names),
        "case_id": saving.row.case.id,
        "without_case_id": saving.without.case.id,
        "comparison": {**asdict(saving.time), "verdict": str(saving.time.verdict)},
        "replaced": saving.replaced,
        "operators": {"without": operators[0], "with": operators[1]} if operators else None,
        "parity": asdict(parity) if parity else None,
    }


def _told(saving: Saving, every: Sequence[Saving]) -> str:
    """The case's label and the settings in which it differs from others of them."""
    words, others = settings(saving.row.case), [settings(other.row.case) for other in every]
    differing = [text for name, text in words.items() if any(other[name] != text for other in others)]
    return " ".join(filter(None, (saving.row.label, *differing)))


def _counts(artifact: Artifact | None) -> dict[str, int]:
    return dict(artifact.op_counts) if artifact else {}
