"""What a network's stages are made of, from its artifact: `NCB×2 | NCB + NTB | (NCB×2 + NTB)×2 | NTB`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)")
_BETWEEN = "downsampling"


def stages_of(modules: Mapping[str, str]) -> str:
    """Of the names that an artifact keeps by module path; empty for a network without stages of blocks."""
    stages: dict[int, dict[int, str]] = {}
    for path, kind in modules.items():
        if (found := _BLOCK.fullmatch(path)) and kind != _BETWEEN:
            stages.setdefault(int(found[1]), {})[int(found[2])] = kind
    kinds = [[stages[index][at] for at in sorted(stages[index])] for index in sorted(stages)]
    return " | ".join(map(_shortened, kinds))


def _shortened(blocks: Sequence[str]) -> str:
    """With a pattern of several kinds that repeats up to the end, which may have others before it."""
    for first in range(len(blocks)):
        rest = list(blocks[first:])
        for length in range(2, len(rest) // 2 + 1):
            unit = rest[:length]
            repeats = len(rest) // length
            if len(set(unit)) > 1 and unit * repeats == rest:
                before = [_runs(blocks[:first])] if first else []
                return " + ".join([*before, f"({_runs(unit)})×{repeats}"])
    return _runs(blocks)


def _runs(blocks: Sequence[str]) -> str:
    """`NCB×2 + NTB`."""
    counted = ((kind, len(list(run))) for kind, run in groupby(blocks))
    return " + ".join(f"{kind}×{count}" if count > 1 else kind for kind, count in counted)
