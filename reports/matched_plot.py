"""The figure of accuracies at one latency; importing this module loads matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib

from reports import drawing as d
from reports import palette as colour
from reports.drawing import Drawing
from reports.figures import dot, dot_axes, pad_x
from reports.matched_accuracy import mean_interval

if TYPE_CHECKING:
    from reports.matched import Matched


def accuracy_panel(trained: Sequence[Matched]) -> Drawing:
    """Mean top-1 with its interval over seeds; hollow are those that are not at the reference's latency."""
    intervals = [[None if v is None else 100 * v for v in mean_interval(each.top1)] for each in trained]
    notes = [f"{mean:.2f} %" for mean, _, _ in intervals]
    with matplotlib.rc_context(d.style()):
        figure, axes = dot_axes([each.model for each in trained], notes, "top-1 on the digits held out, %")
        for y, (each, (mean, low, high)) in enumerate(zip(trained, intervals, strict=True)):
            assert mean is not None
            color = colour.BLUE if each.is_matched else colour.MUTED
            high = None if high is None else min(100.0, high)
            dot(axes, y, mean, low, high, color=color, hollow=not each.is_matched)
        ends = [value for mean, low, high in intervals for value in (mean, low, high) if value is not None]
        pad_x(axes, [min(100.0, end) for end in ends])
        axes.set_xlim(right=min(100.5, axes.get_xlim()[1]))  # a single mean would have ticks above 100 %
        svg = d.to_svg(figure, "matched-accuracy")
    alt = "; ".join(f"{each.model} {note}" for each, note in zip(trained, notes, strict=True))
    return Drawing(
        "matched-accuracy",
        "Accuracy at the reference's latency",
        f"Accuracy on the digits held out: {alt}.",
        svg,
        "mean over seeds with Student's 95 % interval, cut at 100 %; hollow: not at the reference's latency",
    )
