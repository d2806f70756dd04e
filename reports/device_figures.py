"""The figure of a compute plan: what it estimates to cost where, a bar per compute unit.

Importing this module loads matplotlib; only the report writer does.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib

from reports import drawing as d
from reports import palette as colour
from reports.device_text import percent
from reports.drawing import Drawing
from reports.figures import dot_axes

# place -> (its short name, its colour)
_PLACES = {
    "neural_engine": ("NE", colour.BLUE),
    "gpu": ("GPU", colour.GREEN),
    "cpu": ("CPU", colour.ORANGE),
    "unknown": ("not told", colour.PALE),
}


def placement_panel(title: str, shares: Mapping[str, Mapping[str, float]], *, name: str) -> Drawing:
    """`shares` of the estimated cost, 0 to 1, by place, for every compute unit."""
    notes = [
        ", ".join(f"{_PLACES[place][0]} {percent(share)}" for place, share in one.items())
        for one in shares.values()
    ]
    with matplotlib.rc_context(d.style()):
        figure, axes = dot_axes(list(shares), notes, "estimated cost by Core ML's plan, % (no time)")
        for y, one in enumerate(shares.values()):
            left = 0.0
            for place, share in one.items():
                axes.barh(y, 100 * share, left=left, height=0.5, color=_PLACES[place][1], lw=0)
                left += 100 * share
        axes.set_xlim(0, 100)
        alt = "; ".join(f"{unit} {note}" for unit, note in zip(shares, notes, strict=True))
        return Drawing(name, title, f"Estimated cost, {title}: {alt}.", d.to_svg(figure, name))
