"""How figures are drawn: one style, one palette, SVG with real text that looks the same every time.

matplotlib is imported here, without pyplot and without a display: only report writing loads this module.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.palette import INK, MUTED
from reports.short_labels import shortened

WIDTH_IN: Final = 4.3
FONT_PT: Final = 8.5
SMALL_PT: Final = 8.0
_SCREEN_FONTS = "'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_STYLE: dict[str, object] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so the layout is the same on every machine
    "font.size": FONT_PT,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure: `svg` to put into a page, `alt` what it shows for who cannot see it."""

    name: str
    title: str
    alt: str
    svg: str
    caption: str = ""

    @property
    def aspect(self) -> str:
        """`309.6 / 259.2`: the place that a page keeps for it while it is out of sight and not laid out."""
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', self.svg)
        return f"{box[1]} / {box[2]}" if box else "auto"


def style() -> matplotlib.RcParams:
    """matplotlib's own defaults plus ours, whatever the user's matplotlibrc says."""
    return matplotlib.RcParams({**matplotlib.rcParamsDefault, **_STYLE})


def new_axes(height_in: float, *, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """A figure of a fixed size with one bare axes; call inside `matplotlib.rc_context(style())`."""
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def frame(figure: Figure, *, left_in: float, right_in: float, bottom_in: float, top_in: float = 0.1) -> None:
    """Fix the margins in inches, so that panels of one row line up."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left_in / width, right=1 - right_in / width, bottom=bottom_in / height, top=1 - top_in / height
    )


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids are its own; raises nothing, touches no file."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return _compact(text, name)


def _compact(text: str, name: str) -> str:
    """Ids of its own and only where something refers to them, the font said once, hundredths of a point.

    Half the size: a page of a thousand cases holds tens of thousands of marks and labels.
    """
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda it: f' id="{name}-{it[1]}"' if it[1] in used else "", text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r" font-family: 'DejaVu Sans'(?:, [^;]+)?;", "", text)
    text = text.replace("<svg ", f'<svg font-family="{_SCREEN_FONTS}" ', 1)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    text = re.sub(r"<[^>]*>", lambda tag: _rounded(tag[0]), text)
    return _without_bare_groups(re.sub(r"[ \t]*\n[ \t]*", "\n", text).strip())


def _rounded(tag: str) -> str:
    """Numbers of a tag to hundredths of a point; what stands between tags is text that is read."""
    return re.sub(r"\d+\.\d{3,}", lambda it: f"{float(it[0]):.2f}".rstrip("0").rstrip("."), tag)


def _without_bare_groups(text: str) -> str:
    """Groups without any attribute are matplotlib's own order; each tag stands on a line."""
    kept, opened = [], []
    for line in text.split("\n"):
        if line.startswith("<g") and not line.endswith("/>"):
            opened.append(line != "<g>")
        if line == "<g/>" or line == "<g>" or (line == "</g>" and not opened.pop()):
            continue
        kept.append(line)
    return "\n".join(kept)


def text_width_in(labels: Sequence[str], *, size_pt: float = FONT_PT) -> float:
    """A safe estimate of the widest label, for margins (the screen's font may differ from the layout's)."""
    return max((len(label) for label in labels), default=0) * 0.56 * size_pt / 72


def short(labels: Sequence[str], longest: int = 26) -> list[str]:
    """Labels of one figure cut to fit a margin, different ones told apart; the table has them in full."""
    return shortened(labels, longest)


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)


_AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def place_labels(
    axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str], *, colors: Sequence[str]
) -> None:
    """Write a label beside each point where it covers least of the others, with a thread when far away.

    A point with an empty label is one to keep clear of.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = 72.0 / figure.dpi
    at = [tuple(axes.transData.transform(point) * scale) for point in points]  # points of 1/72 inch
    area = axes.get_window_extent()
    inside = _Box(area.x0 * scale, area.y0 * scale, area.x1 * scale, area.y1 * scale)
    taken = [_Box(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    named = [i for i, label in enumerate(labels) if label]
    for index in sorted(named, key=lambda i: (-at[i][1], at[i][0])):
        offset, box = _best_spot(at[index], labels[index], taken, inside)
        taken.append(box)
        axes.annotate(
            labels[index],
            points[index],
            xytext=offset,
            textcoords="offset points",
            ha={1: "left", -1: "right", 0: "center"}[_sign(offset[0])],
            va="center",
            fontsize=SMALL_PT,
            color=colors[index],
            arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.4, "shrinkA": 1, "shrinkB": 3}
            if max(abs(offset[0]), abs(offset[1])) > 14
            else None,
        )


def _best_spot(
    at: tuple[float, ...], label: str, taken: Sequence[_Box], inside: _Box
) -> tuple[tuple[float, float], _Box]:
    """The nearest of 24 places around a point that overlaps least with what is already there."""
    width, height = len(label) * 0.58 * SMALL_PT, SMALL_PT * 1.15
    best: tuple[float, tuple[float, float], _Box] | None = None
    for distance in (7.0, 16.0, 27.0):
        for right, up in _AROUND:
            offset = (right * distance, up * distance)
            centre = at[0] + offset[0] + right * width / 2, at[1] + offset[1]
            box = _Box(
                centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2
            )
            outside = width * height - box.overlap(inside)
            cost = sum(box.overlap(other) for other in taken) + 3 * outside + distance / 10
            if best is None or cost < best[0]:
                best = (cost, offset, box)
    assert best is not None
    return best[1], best[2]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
