"""Titles of groups that their settings do not tell apart, only their protocols."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runners.measurement import Protocol

if TYPE_CHECKING:
    from reports.tables import Facet

_MAX_NAMED = 2  # fields that a title has room for
_LONGEST = 60  # characters of a value in a title


def distinct(facets: Sequence[Facet]) -> list[Facet]:
    """Each with a title of its own: by the field or two in which the protocols of one title differ
    (`..., executed_precision f32`), by the runtime and the protocol's id where that is too much to say."""
    alike: dict[str, list[Facet]] = defaultdict(list)
    for facet in facets:
        alike[facet.title].append(facet)
    words = {title: _differing(group) for title, group in alike.items()}
    return [replace(f, title=", ".join([f.title, *_told(f.protocol, words[f.title])])) for f in facets]


def flat(protocol: Protocol) -> dict[str, object]:
    """Fields and options side by side."""
    fields = protocol.to_dict()
    options = fields.pop("options")
    return {**fields, **options}


def _differing(group: Sequence[Facet]) -> list[str] | None:
    """The fields in which protocols of one title differ; None for too many of them, or too long ones."""
    said = [flat(facet.protocol) for facet in group]
    names = dict.fromkeys(name for one in said for name in one)
    differing = [name for name in names if len({str(one.get(name, "")) for one in said}) > 1]
    longest = max((len(str(one.get(name, ""))) for one in said for name in differing), default=0)
    return differing if len(differing) <= _MAX_NAMED and longest <= _LONGEST else None


def _told(protocol: Protocol, differing: Sequence[str] | None) -> list[str]:
    if differing is None:
        return [f"{protocol.runtime} ({protocol.id})"]
    return [f"{name} {flat(protocol).get(name, 'unset')}" for name in differing]
