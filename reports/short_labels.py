"""Labels cut to the room that there is, so that different ones stay different."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

_CUT = "…"
_HEAD_SHARE = 3  # a third of the room at least is the label's beginning


def shortened(labels: Sequence[str], longest: int) -> list[str]:
    """The labels in at most `longest` characters, 8 at least; equal ones stay equal, others different.

    A label loses its end. Where that would make two alike, the middle goes instead, up to the word in which
    they differ: `nextvit_small…0a1b2c3d4e5f`. What is alike even so is numbered: `nextvit_sma…2`.
    """
    room = max(longest, 8)
    found = {label: _cut(label, room) for label in dict.fromkeys(labels)}
    for alike in _alike(found):
        found |= _told_apart(alike, room)
    numbered = _numbered(found, room)
    return [numbered[label] for label in labels]


def _cut(label: str, room: int) -> str:
    return label if len(label) <= room else f"{label[: room - 1]}{_CUT}"


def _alike(found: Mapping[str, str]) -> list[list[str]]:
    """Groups of different labels that have become one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, text in found.items():
        groups[text].append(label)
    return [group for group in groups.values() if len(group) > 1]


def _told_apart(alike: Sequence[str], room: int) -> dict[str, str]:
    """Each with its end from where the group differs; what is alike even so, from where that differs."""
    begin = _difference(alike, room)
    found = {label: _from(label, begin, room) for label in alike}
    for group in _alike(found):
        if len(group) < len(alike):
            found |= _told_apart(group, room)
    return found


def _difference(labels: Sequence[str], room: int) -> int:
    """Where the word begins in which the labels first differ; within a word that is long, where they do."""
    letters = enumerate(zip(*labels, strict=False))
    shared = next((place for place, each in letters if len(set(each)) > 1), min(map(len, labels)))
    word = re.search(r"[A-Za-z0-9]*$", labels[0][:shared])
    begin = word.start() if word else shared
    is_near = shared - begin <= _room_of_end(room) // 2
    return begin if begin > 0 and is_near else shared


def _from(label: str, begin: int, room: int) -> str:
    """`nextvit_s…0a1b2c3d4e`: the label's beginning, and what stands at `begin`."""
    if len(label) <= room:
        return label
    end = _cut(label[begin:], _room_of_end(room))
    return f"{label[: room - len(_CUT) - len(end)]}{_CUT}{end}"


def _room_of_end(room: int) -> int:
    return room - room // _HEAD_SHARE - len(_CUT)


def _numbered(found: Mapping[str, str], room: int) -> dict[str, str]:
    """Those that are still alike get a number; a label that fits whole keeps its text before all others."""
    taken: dict[str, str] = {}
    for label in sorted(found, key=lambda label: found[label] != label):
        text, number = found[label], 1
        while text in taken:
            number += 1
            text = f"{found[label][: room - len(_CUT) - len(str(number))]}{_CUT}{number}"
        taken[text] = label
    return {label: text for text, label in taken.items()}
