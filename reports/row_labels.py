"""The shortest name of a case that no other one of its group has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from models.spec import Case

_WEIGHTS_SHOWN = 19  # `sha256:` and its first 12 digits


def short_name(case: Case) -> str:
    """`ncb` for `block/ncb`, `convnext_tiny` for `timm/convnext_tiny`."""
    return case.model.name.removeprefix("block/").removeprefix("timm/")


def row_labels(cases: Sequence[Case]) -> list[str]:
    """Short names; where two are equal, followed by whatever tells those cases apart."""
    uses = Counter(short_name(case) for case in cases)
    return [
        short_name(case) if uses[short_name(case)] == 1 else f"{short_name(case)} {_distinction(case, cases)}"
        for case in cases
    ]


def _distinction(case: Case, cases: Iterable[Case]) -> str:
    rivals = [other for other in cases if short_name(other) == short_name(case) and other != case]
    facts = {"name": case.model.name, "weights": _weights(case), **dict(case.model.options)}
    differing = [
        f"{name}={value}"
        for name, value in facts.items()
        if any(_fact(other, name) != value for other in rivals)
    ]
    return " ".join(differing) or case.id


def _fact(case: Case, name: str) -> object:
    facts: dict[str, object] = {"name": case.model.name, "weights": _weights(case)}
    return facts[name] if name in facts else case.model.option(name)


def _weights(case: Case) -> str:
    return case.model.weights[:_WEIGHTS_SHOWN]
