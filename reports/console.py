"""The terminal as reports write to it: what would steer it is shown escaped, wherever the text came from."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from reports.formatting import harmless


class PlainConsole(Console):
    """Names and messages of a file that came from elsewhere may hold escape sequences: none gets through.

    Colours and cursor movements are rich's own, which it keeps apart from text.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
