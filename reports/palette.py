"""The report's colours and marker shapes: Okabe and Ito's palette, told apart with every colour vision."""

from __future__ import annotations

from typing import Final

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
SKY: Final = "#56B4E9"
INK: Final = "#1b2733"
MUTED: Final = "#5b6875"
PALE: Final = "#9aa7b4"
GRID: Final = "#dfe4e9"
SERIES: Final = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK, MUTED)
MARKER_NAMES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
MARKER_SIGNS: Final = dict(zip(MARKER_NAMES, "●■▲◆▼✚✖★", strict=True))
