"""The terminal as reports write to it: no line ends between a figure and its unit, and what would steer the
terminal is shown escaped, wherever the text came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from reports.formatting import harmless

# A space that no line ends at. rich ends lines at Unicode's own too; this is a code point that Unicode leaves
# to the inside of a program, so that no text holds it.
_JOINT = "\ufdd0"
_UNIT = r"%|[nµm]?s|min|h|[KMG]i?B|B|M|G(?:MAC|op)s?(?:/s)?|images/s"
_BEFORE_A_UNIT = re.compile(rf"(?<=[\d?]) (?=(?:{_UNIT})(?![\w/]))|(?<=≈) (?=\d)")


class PlainConsole(Console):
    """Names and messages of a file that came from elsewhere may hold escape sequences: none gets through.

    Colours and cursor movements are rich's own, which it keeps apart from text.
    """

    def render_str(self, *args: Any, **kwargs: Any) -> Text:
        """A cell of a table is measured as it will be printed."""
        return _joined(super().render_str(*args, **kwargs))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        whole = _joined(renderable) if isinstance(renderable, Text) else renderable
        for segment in super().render(whole, options):
            text = segment.text.replace(_JOINT, " ")
            yield segment if segment.control else segment._replace(text=harmless(text))


def _joined(text: Text) -> Text:
    """With every figure and its unit in one word; styles lie where they did."""
    plain = _BEFORE_A_UNIT.sub(_JOINT, text.plain)
    if plain == text.plain:
        return text
    joined = text.copy()
    joined.plain = plain
    return joined
