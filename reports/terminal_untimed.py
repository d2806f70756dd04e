"""Cases that are built and not timed, as lines for any window width. No column of it is a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import formatting as fmt
from reports import untimed
from reports.records import PublishedFigure
from reports.short_labels import shortened
from reports.tables import RunTable
from reports.untimed import UntimedRow

_GAP = "  "
_INDENT = "  "


@dataclass(frozen=True)
class _Column:
    """`need` 0 is always shown; where the window is too narrow, the largest `need` goes first."""

    header: str
    texts: Sequence[str]
    need: int
    right: bool = True

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.header, *self.texts)))


def print_untimed(table: RunTable, console: Console, published: Sequence[PublishedFigure] | None) -> None:
    """Print what is built, why it was not timed, what others published, and how it can be timed."""
    found = untimed.rows(table, published)
    if not found:
        return
    console.print()
    if table.rows or table.failures:  # else the headline says it
        console.print(Text(untimed.summary(table), style="bold yellow"))
    columns = _that_fit(_columns(found, console.width), console.width)
    console.print(_line([(column.header, column) for column in columns], style="bold"))
    for place in range(len(found)):
        console.print(_line([(column.texts[place], column) for column in columns]))
    if any(column.header == "published" for column in columns):
        for text, mark in untimed.sources(found).items():
            told = f"{mark} published, not measured here: {text}"
            console.print(Padding(Text(told, style="dim"), (0, 0, 0, 2), expand=False))
    for text in untimed.advice(table):
        _print_advice(text, console)


def _print_advice(text: str, console: Console) -> None:
    """Commands between backticks have a line of their own, and are not broken, so that they can be copied."""
    for part, is_command in untimed.advice_parts(text):
        if is_command:
            console.print(Text(f"{_INDENT * 2}{part}"), soft_wrap=True)
        else:
            console.print(Padding(Text(part), (0, 0, 0, 2), expand=False))


def _columns(found: Sequence[UntimedRow], width: int) -> list[_Column]:
    """Every column that has something to say; names are cut to stand beside the files' sizes."""
    file = _Column("file", [_or_missing(row.size_bytes, fmt.size) for row in found], 0)
    names = shortened([row.label for row in found], width - len(_INDENT) - len(_GAP) - file.width)
    columns = [
        _Column("built, not timed", [_INDENT + name for name in names], 0, right=False),
        _Column("setting", [row.place for row in found], 3, right=False),
        file,
        _Column("build", [_or_missing(row.build_ns, fmt.duration) for row in found], 1),
        _Column("layers", [_or_missing(row.layers, str) for row in found], 4),
        _Column("weights", [_or_missing(row.weights_bytes, fmt.size) for row in found], 5),
        _Column("activations", [_or_missing(row.activation_bytes, fmt.size) for row in found], 6),
        _Column("published", _published(found), 2),
    ]
    return [
        column for column in columns if any(text.strip() not in ("", fmt.MISSING) for text in column.texts)
    ]


def _or_missing(value: int | None, text: Callable[[int], str]) -> str:
    return fmt.MISSING if value is None else text(value)


def _published(found: Sequence[UntimedRow]) -> list[str]:
    """Each with the mark of its source."""
    marks = untimed.sources(found)
    return [untimed.marked(row, marks) if row.published else f"{fmt.MISSING}  " for row in found]


def _that_fit(columns: Sequence[_Column], width: int) -> list[_Column]:
    """As many as the window holds."""
    chosen = [column for column in columns if column.need == 0]
    for column in sorted(columns, key=lambda column: column.need):
        if column.need and _total([*chosen, column]) <= width:
            chosen.append(column)
    return [column for column in columns if column in chosen]


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _line(cells: Sequence[tuple[str, _Column]], style: str = "") -> Text:
    parts = []
    for text, column in cells:
        padding = " " * (column.width - cell_len(text))
        parts.append(padding + text if column.right else set_cell_size(text, column.width))
    return Text(_GAP.join(parts).rstrip(), style=style, no_wrap=True, overflow="ellipsis")
