"""What a step of the conversion saves, drawn: ratios with their intervals around 1, a panel for each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import matplotlib
from matplotlib.ticker import MaxNLocator

from reports import drawing as d
from reports import palette as colour
from reports.drawing import Drawing
from reports.figures import dot, dot_axes, pad_x
from reports.savings import FUSION, Saving
from reports.verdicts import DELTA, Verdict

_PER_PANEL: Final = 24
_BAND: Final = (1.0 / (1.0 + DELTA), 1.0 + DELTA)
_COLORS: Final = {Verdict.SLOWER: colour.BLUE, Verdict.FASTER: colour.VERMILLION}


def panels(groups: Sequence[Sequence[Saving]], name: str) -> tuple[Drawing, ...]:
    """Time without the step over time with it: above 1 it saves time. One axis for all panels.

    Blue saves time beyond the noise, orange costs it; a hollow mark is undecided or no difference.
    """
    parts = [
        group[start : start + _PER_PANEL] for group in groups for start in range(0, len(group), _PER_PANEL)
    ]
    ends = [end for part in parts for saving in part for end in _ends(saving)]
    with matplotlib.rc_context(d.style()):
        return tuple(
            _panel(part, ends, f"{name}-{place}" if place else name) for place, part in enumerate(parts)
        )


def _panel(savings: Sequence[Saving], ends: Sequence[float], name: str) -> Drawing:
    what = savings[0].what
    axis = "time unfused / fused" if what == FUSION else "time without / with"
    figure, axes = dot_axes([s.label for s in savings], [s.ratio_text for s in savings], axis)
    axes.axvspan(*_BAND, color=colour.GRID, alpha=0.6, lw=0, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.axvline(1.0, color=colour.INK, lw=0.8, zorder=1)
    for y, saving in enumerate(savings):
        ratio, verdict = saving.ratio, saving.time.verdict
        color = _COLORS.get(verdict, colour.MUTED)
        dot(axes, y, ratio.value, ratio.low, ratio.high, color=color, hollow=verdict not in _COLORS)
    pad_x(axes, [*_BAND, *ends])
    title = "Speed-up by fusion" if what == FUSION else what.capitalize()
    told = "; ".join(f"{s.label} {s.ratio_text}, {s.verdict}" for s in savings)
    return Drawing(name, title, f"{title}, {axis}: {told}.", d.to_svg(figure, name))


def _ends(saving: Saving) -> list[float]:
    ratio = saving.ratio
    return [value for value in (ratio.low, ratio.value, ratio.high) if value is not None]
