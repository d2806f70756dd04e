"""A section that only some reports have: a comparison, a history. It comes before the run's own sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.grids import Grid

if TYPE_CHECKING:
    from reports.drawing import Drawing


@dataclass(frozen=True)
class Section:
    """`anchor` is its place in the page; `short` its name in the navigation; paragraphs are plain text.

    `notes` are shown below figures and tables, in a smaller type.
    """

    anchor: str
    short: str
    title: str
    paragraphs: tuple[str, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
