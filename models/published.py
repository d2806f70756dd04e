"""Figures that others published: accuracy and latency on their devices, with source and setting.

The table is published.csv beside this file. Nothing in it was measured by this project, and nothing in it is
an estimate of ours: what is blank was not found. Rows whose note begins with DIGITISED were read off a plot
and tell their error there. `gmacs` are what the papers call FLOPs. No pandas here: a report reads the table
in milliseconds.
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


class PublishedError(ValueError):
    """A row that cannot be true: names the file, the line, the column and the value."""


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


COLUMNS = (
    *("model", "family", "task", "setting", "resolution", "params_m", "gmacs", "acc_top1", "metric_name"),
    *("metric_value", "tensorrt_ms", "tensorrt_setup", "coreml_ms", "coreml_setup", "source", "notes"),
)


@cache
def table() -> tuple[Published, ...]:
    """Every row of published.csv, in order. Raises PublishedError."""
    return read(TABLE)


def read(path: Path) -> tuple[Published, ...]:
    """Every row of a table like published.csv. Raises PublishedError naming line, column and value."""
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    try:
        head = next(reader, [])
        if tuple(head) != COLUMNS:
            raise PublishedError(f"{path}: line 1: columns are {','.join(head)}, not {','.join(COLUMNS)}")
        return tuple(_Row(path, reader.line_num, values).read() for values in reader)
    except csv.Error as error:
        raise PublishedError(f"{path}: line {reader.line_num}: {error}") from None


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


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PublishedError(f"{path}: line {line}: byte 0x{data[error.start]:02x} is not UTF-8") from None


class _Row:
    """Reads the cells of one line; every complaint names the place."""

    def __init__(self, path: Path, line: int, values: Sequence[str]) -> None:
        self._where = f"{path}: line {line}"
        if len(values) != len(COLUMNS):
            raise PublishedError(f"{self._where}: {len(values)} values for {len(COLUMNS)} columns")
        self._line = line
        self._cells = dict(zip(COLUMNS, values, strict=True))

    def read(self) -> Published:
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

    def _wrong(self, column: str, why: str) -> PublishedError:
        return PublishedError(f"{self._where}: {column} = '{self._cells[column]}': {why}")
