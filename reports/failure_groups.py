"""Failed cases grouped by their cause, so that hundreds of them read as a few lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reports.formatting import count, listing
from reports.records import CaseResult
from runners.measurement import Failure

MAX_NAMED = 8
LEAST = 3  # fewer cases with one cause are told one by one
# What libraries say of an input of another size than theirs, by what they name.
_NEEDS_SIDE = (
    re.compile(r"(?:height|width|size) \(?\d+(?:[x*]\d+)?\)? doesn't match model \(?(\d+)"),
    re.compile(r"must be (\d+): its positions are learned for that side"),
)
_PLACES = re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{12,64})\b|'[^']{1,200}'|\"[^\"]{1,200}\"")
_NUMBERS = re.compile(r"(?<![A-Za-z_])\d+(?:\.\d+)?(?:e-?\d+)?")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Cases that failed for one cause, told in words that hold for all; the advice is the first one's."""

    cause: str
    kind: str
    results: tuple[CaseResult, ...]
    advice: str

    @property
    def is_single(self) -> bool:
        return len(self.results) == 1

    @property
    def title(self) -> str:
        """`12 networks: needs resolution 256`."""
        models = len({result.case.model for result in self.results})
        blocks = all(result.case.model.is_block for result in self.results)
        what = count(models, "block" if blocks else "network")
        more = f", {count(len(self.results), 'case')}" if len(self.results) != models else ""
        return f"{what}{more}: {self.cause}"

    @property
    def names(self) -> str:
        """The models, the first eight by name."""
        found = list(dict.fromkeys(result.case.model.name for result in self.results))
        left = len(found) - MAX_NAMED
        return listing([*found[:MAX_NAMED], f"{left} more"] if left > 1 else found)


def grouped(failures: Sequence[CaseResult]) -> list[FailureGroup]:
    """One group for every cause, the largest first; a case whose cause has no two others stands alone."""
    groups: dict[tuple[str, str], list[tuple[CaseResult, Failure]]] = {}
    for result in failures:
        if result.failure is not None:
            key = (result.failure.kind, _cause(result, result.failure))
            groups.setdefault(key, []).append((result, result.failure))
    found = []
    for (_, cause), members in groups.items():
        parts = [members] if len(members) >= LEAST else [[member] for member in members]
        found += [_group(cause, part) for part in parts]
    order = {result.case.id: place for place, result in enumerate(failures)}
    return sorted(found, key=lambda group: (-len(group.results), order[group.results[0].case.id]))


def _group(cause: str, members: Sequence[tuple[CaseResult, Failure]]) -> FailureGroup:
    first = members[0][1]
    words = first.message if len(members) == 1 else cause
    results = tuple(result for result, _ in members)
    return FailureGroup(words, first.kind.replace("_", " "), results, first.advice)


def _cause(result: CaseResult, failure: Failure) -> str:
    """The message without what differs between cases of one cause: names, places, numbers."""
    if side := _needed_side(failure.message):
        return side
    text = failure.message.replace(result.case.model.name, "it").replace(result.case.label, "it")
    text = _NUMBERS.sub("#", _PLACES.sub("…", text))
    return _SPACES.sub(" ", text)[:200]


def _needed_side(message: str) -> str:
    found = next((match for pattern in _NEEDS_SIDE if (match := pattern.search(message))), None)
    return f"needs resolution {found[1]}" if found else ""
