"""Sweeps of a run: cases that are the same but for batch size, resolution, threads or precision.

`sweep_groups` finds them. Planned cases without a number belong to them too, so that a hole is seen as one.
Ratios along an axis are paired by round, as all others of a run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from models.spec import PRECISIONS, Case
from reports.formatting import count
from reports.statistics import Ratio, paired_ratio
from reports.tables import Row
from reports.verdicts import ratio_over_batches

Value = int | str
Held = tuple[tuple[str, Value], ...]  # the settings that stay, by name

AXES: Final = ("batch", "resolution", "threads", "precision")
TITLES: Final = {axis: "batch size" if axis == "batch" else axis for axis in AXES}


class Setting(NamedTuple):
    """One place in a sweep; `resolution` is the side of the image, or of a block's feature map."""

    batch: int
    resolution: int
    threads: int
    precision: str

    def at(self, axis: str) -> Value:
        return self[AXES.index(axis)]

    def held(self, *axes: str) -> Held:
        """The other settings: those that stay where `axes` are varied."""
        return tuple((name, self.at(name)) for name in AXES if name not in axes)


@dataclass(frozen=True)
class Sweep:
    """`rows` are the measured cases in plan order, `gaps` says of a planned one why it has no number.

    Sweeps of one `frame` may share figures: all but the model is the same. `frame_title` says it in words.
    """

    label: str
    frame: str
    frame_title: str
    rows: Mapping[Setting, Row]
    gaps: Mapping[Setting, str]

    @property
    def case(self) -> Case:
        return next(iter(self.rows.values())).case

    def values(self, axis: str) -> list[Value]:
        """Planned values, the smallest first; precisions in the order of PRECISIONS."""
        found = {setting.at(axis) for setting in (*self.rows, *self.gaps)}
        return sorted(found, key=lambda value: order_of(axis, value))

    @property
    def varied(self) -> tuple[str, ...]:
        return tuple(axis for axis in AXES if len(self.values(axis)) > 1)

    def curves(self, axis: str) -> list[Curve]:
        """The measured lines along an axis with two values at least: the longest first, then by settings."""
        lines: dict[Held, list[Row]] = defaultdict(list)
        for setting, row in self.rows.items():
            lines[setting.held(axis)].append(row)
        found = [
            Curve(self, axis, held, tuple(sorted(line, key=lambda row: order_of(axis, value_of(row, axis)))))
            for held, line in lines.items()
            if len(line) > 1
        ]
        return sorted(found, key=lambda curve: (-len(curve.rows), [order_of(*each) for each in curve.held]))


@dataclass(frozen=True)
class Curve:
    """The measured cases of a sweep along one axis; `held` are the other settings."""

    sweep: Sweep
    axis: str
    held: Held
    rows: tuple[Row, ...]

    @property
    def values(self) -> list[Value]:
        return [value_of(row, self.axis) for row in self.rows]

    @property
    def numbers(self) -> list[float]:
        """The values of an axis that has numbers, which precision has not."""
        return [float(value) for value in self.values]

    def steps(self, *, batched: bool) -> list[Step]:
        """Every value over the smallest one, or over fp32; a resolution over the one before it.

        A pair that has no round in common is left out.
        """
        befores = self.rows[:-1] if self.axis == "resolution" else [self.rows[0]] * (len(self.rows) - 1)
        found = (
            step_between(self.axis, before, after, batched=batched)
            for before, after in zip(befores, self.rows[1:], strict=True)
        )
        return [step for step in found if step is not None]


@dataclass(frozen=True)
class Step:
    """One case over another along an axis: `time` is the ratio of what one inference of the batch takes."""

    axis: str
    before: Row
    after: Row
    time: Ratio

    @property
    def ends(self) -> tuple[Value, Value]:
        return value_of(self.before, self.axis), value_of(self.after, self.axis)

    @property
    def images(self) -> Ratio:
        """Of images per second: by how much the batch grew, over the time that it takes."""
        return inverse(self.time, self.after.case.batch_size / self.before.case.batch_size)

    @property
    def efficiency(self) -> float:
        """Speed-up over the growth in threads."""
        return self.before.case.threads / self.after.case.threads / self.time.value

    @property
    def pixels(self) -> float:
        """The growth of the input's area."""
        return (self.after.case.model.resolution / self.before.case.model.resolution) ** 2

    @property
    def exponent(self) -> Ratio:
        """d log latency / d log pixels between the two."""
        low, high = (
            None if bound is None else self._power(bound) for bound in (self.time.low, self.time.high)
        )
        return Ratio(self._power(self.time.value), low, high, self.time.pairs)

    @property
    def gmacs(self) -> float | None:
        """The growth of one inference's multiply-accumulates; None where they are not counted."""
        before, after = self.before.gmacs, self.after.gmacs
        return after / before if before and after else None

    def _power(self, ratio: float) -> float:
        return math.log(ratio) / math.log(self.pixels)


def step_between(axis: str, before: Row, after: Row, *, batched: bool) -> Step | None:
    """None where the two have no round in common, unless they are of a run in batches.

    Their protocols differ in what their settings say there and in nothing else, so they may be compared.
    """
    relative = ratio_over_batches if batched else paired_ratio
    time = relative(after.measurement, before.measurement, force=True)
    return Step(axis, before, after, time) if time else None


def inverse(ratio: Ratio, scale: float = 1.0) -> Ratio:
    """`scale` over the ratio: a speed-up from a ratio of times."""
    low, high = (None if bound is None else scale / bound for bound in (ratio.high, ratio.low))
    return Ratio(scale / ratio.value, low, high, ratio.pairs)


def setting_of(case: Case) -> Setting:
    return Setting(case.batch_size, case.model.resolution, case.threads, case.precision)


def value_of(row: Row, axis: str) -> Value:
    return setting_of(row.case).at(axis)


def order_of(axis: str, value: Value) -> tuple[int, str]:
    """What the values of an axis are sorted by."""
    if axis != "precision":
        return int(value), ""
    known = value in PRECISIONS
    return PRECISIONS.index(str(value)) if known else len(PRECISIONS), str(value)


def word(axis: str, value: Value) -> str:
    """`batch 8`, `224x224`, `2 threads`, `int8`."""
    if axis == "batch":
        return f"batch {value}"
    if axis == "threads":
        return count(int(value), "thread")
    return f"{value}x{value}" if axis == "resolution" else str(value)


def words(held: Held, axes: Sequence[str] = AXES) -> str:
    """`224x224, 2 threads`, of these axes."""
    return ", ".join(word(name, value) for name, value in held if name in axes)


def step_words(step: Step) -> str:
    """`batch 8 over 1`, `2 threads over 1`, `288x288 over 224x224`, `int8 over fp32`."""
    before, after = step.ends
    plain = step.axis in ("batch", "threads")
    return f"{word(step.axis, after)} over {before if plain else word(step.axis, before)}"
