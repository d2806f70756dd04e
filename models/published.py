"""Figures that others published: accuracy and latency on their devices, with source and setting.

The table is published.csv beside this file. Nothing in it was measured by this project, and nothing in it is
an estimate of ours: what is blank was not found. Rows whose note begins with DIGITISED were read off a plot
and tell their error there. `gmacs` are what the papers call FLOPs. A row that cannot be true is left out and
told; the others are read. No pandas here: a report reads the table in milliseconds.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from models.paper_names import PAPER_NAMES

TABLE = Path(__file__).with_name("published.csv")
TASKS = ("cls", "det", "seg")  # classification, detection, segmentation

_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,3})?", re.ASCII)


class _RowError(ValueError):
    """A row that cannot be true: names the line, the column and the value."""


@dataclass(frozen=True, slots=True)
class PublishedLatency:
    """`setup` says device, software, precision and batch, as far as the source does."""

    ms: float
    setup: str


@dataclass(frozen=True, slots=True)
class Published:
    """One row. `resolution` is the side of the input where the source gives one number; `input` its words.

    `acc_top1` is ImageNet accuracy in percent; `metrics` are other figures by name.
    """

    line: int
    model: str
    family: str
    task: str
    setting: str
    input: str
    resolution: int | None
    params_m: float | None
    gmacs: float | None
    acc_top1: float | None
    metrics: tuple[tuple[str, float], ...]
    tensorrt: PublishedLatency | None
    coreml: PublishedLatency | None
    source: str
    notes: str

    @property
    def digitised(self) -> bool:
        """Read off a plot, with the error that `notes` tells."""
        return self.notes.startswith("DIGITISED")


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """`unread` tells of each row that cannot be true its line, its column, its value and why; it is in no
    other way in the table. A head that is wrong leaves out all rows, a quote without an end those behind it.
    """

    rows: tuple[Published, ...] = ()
    unread: tuple[str, ...] = ()


COLUMNS = (
    *("model", "family", "task", "setting", "resolution", "params_m", "gmacs", "acc_top1", "metric_name"),
    *("metric_value", "tensorrt_ms", "tensorrt_setup", "coreml_ms", "coreml_setup", "source", "notes"),
)


def table() -> tuple[Published, ...]:
    """The rows of published.csv that can be true, in order."""
    return _shipped().rows


def unread() -> tuple[str, ...]:
    """What is wrong with the other rows of published.csv, each with its line."""
    return _shipped().unread


@cache
def _shipped() -> PublishedTable:
    return read(TABLE)


def read(path: Path) -> PublishedTable:
    """A table like published.csv. A file that cannot be read is told as unread, too."""
    try:
        # Bytes that are no text become surrogates, so that the row that has them can name them.
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        return PublishedTable(unread=(f"the file cannot be read: {error.strerror}",))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Published] = []
    unread: list[str] = []
    try:
        head = next(reader, [])
    except csv.Error as error:
        return PublishedTable(unread=(f"line 1: {error}",))
    if tuple(head) != COLUMNS:
        wrong = _printable(",".join(head))
        return PublishedTable(unread=(f"line 1: columns are {wrong}, not {','.join(COLUMNS)}",))
    while True:
        try:
            values = next(reader)
            rows.append(_Row(reader.line_num, values).read())
        except StopIteration:
            return PublishedTable(tuple(rows), tuple(unread))
        except csv.Error as error:
            unread.append(f"line {reader.line_num}: {error}")
        except _RowError as error:
            unread.append(str(error))


def rows_of(model: str) -> tuple[Published, ...]:
    """The rows of a model by our name (`nextvit_small`, `timm/resnet50`, `timm/resnet50.a1_in1k`).

    A name with timm's tag after the dot means those weights alone in timm's tables, and all papers' rows.
    """
    name = model.removeprefix("timm/")
    architecture = name.partition(".")[0]
    names = {name, architecture, *PAPER_NAMES.get(architecture, ())}
    untagged = name == architecture
    return tuple(
        row
        for row in table()
        if row.model in names or (untagged and row.model.startswith(f"{architecture}."))
    )


def _printable(text: str) -> str:
    """With bytes that are no text as \\xff."""
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


class _Row:
    """Reads the cells of one line; every complaint names the place."""

    def __init__(self, line: int, values: Sequence[str]) -> None:
        if len(values) != len(COLUMNS):
            raise _RowError(f"line {line}: {len(values)} values for {len(COLUMNS)} columns")
        self._line = line
        self._cells = dict(zip(COLUMNS, values, strict=True))

    def read(self) -> Published:
        for column, value in self._cells.items():
            if value != _printable(value):
                raise self._wrong(column, "not UTF-8")
        task = self._text("task")
        if task not in TASKS:
            raise self._wrong("task", f"none of {', '.join(TASKS)}")
        return Published(
            line=self._line,
            model=self._text("model"),
            family=self._text("family"),
            task=task,
            setting=self._text("setting"),
            input=self._cells["resolution"],
            resolution=self._side(),
            params_m=self._number("params_m"),
            gmacs=self._number("gmacs"),
            acc_top1=self._number("acc_top1", most=100),
            metrics=self._metrics(),
            tensorrt=self._latency("tensorrt"),
            coreml=self._latency("coreml"),
            source=self._text("source"),
            notes=self._cells["notes"],
        )

    def _text(self, column: str) -> str:
        value = self._cells[column]
        if not value.strip():
            raise self._wrong(column, "must not be empty")
        return value

    def _side(self) -> int | None:
        """None where the source describes its input in words, or not at all."""
        text = self._cells["resolution"]
        if not (text.isascii() and text.isdigit()):
            return None
        if len(text) > 5 or int(text) < 1:
            raise self._wrong("resolution", "a side has 1 to 99999 pixels")
        return int(text)

    def _number(self, column: str, *, most: float = math.inf) -> float | None:
        text = self._cells[column]
        return self._positive(column, text, most) if text else None

    def _positive(self, column: str, text: str, most: float = math.inf) -> float:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not 0 < value <= most or value == math.inf:
            raise self._wrong(column, f"'{text}' is not a number above 0{f' up to {most:g}' * (most < 1e9)}")
        return value

    def _latency(self, runtime: str) -> PublishedLatency | None:
        ms, setup = self._number(f"{runtime}_ms"), self._cells[f"{runtime}_setup"]
        if (ms is None) != (not setup):
            raise self._wrong(f"{runtime}_setup", "a latency and its setup stand together or not at all")
        return PublishedLatency(ms, setup) if ms is not None else None

    def _metrics(self) -> tuple[tuple[str, float], ...]:
        names, values = (
            [part.strip() for part in self._cells[column].split(";")] if self._cells[column] else []
            for column in ("metric_name", "metric_value")
        )
        if len(names) != len(values):
            raise self._wrong("metric_value", f"{len(values)} values for {len(names)} names")
        return tuple(
            (name, self._positive("metric_value", value)) for name, value in zip(names, values, strict=True)
        )

    def _wrong(self, column: str, why: str) -> _RowError:
        return _RowError(f"line {self._line}: {column} = '{_printable(self._cells[column])}': {why}")
