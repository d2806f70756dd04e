"""The section on a run's sweeps: findings, heat maps, curves, every step along an axis with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from reports import agreement
from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.sections import Section
from reports.sweep import AXES, Curve, Step, Sweep, step_words, words
from reports.sweep_findings import sentences
from reports.sweep_groups import grouped, splits, sweeps
from reports.sweep_planes import heat_maps
from reports.tables import RunTable

if TYPE_CHECKING:
    from reports.drawing import Drawing

MAX_FIGURES: Final = 12
MAX_STEPS: Final = 300
_MAX_CURVES: Final = 6  # where there are heat maps too
_MAX_SPLITS: Final = 6
_NOTES: Final = (
    "A sweep is cases that differ in batch size, resolution, threads or precision and in nothing else: the"
    " same model, weights, runtime, device and options, and a protocol that differs only in what threads and"
    " precision say in it. Every ratio is taken round by round and has its 95 % interval. Images per second"
    " are those of the table of results; the interval of a rate is that of its median.",
)

Make = Callable[[str], "Drawing"]


def section(table: RunTable) -> Section | None:
    """None where no two cases of the run differ in a swept setting alone."""
    groups = grouped(table)
    found = sweeps(table, groups)
    if not found:
        return None
    parted = splits(groups)
    batched = table.info.is_batched
    drawings, left = _drawings(found, table.unit, batched=batched)
    grid, more = steps_grid(found, batched=batched)
    beyond = [f"{fmt.count(len(parted) - _MAX_SPLITS, 'more model')} are in such parts."]
    return Section(
        "scaling",
        "Scaling",
        "How does it scale?",
        (*sentences(found, batched=batched), *parted[:_MAX_SPLITS], *beyond[: len(parted) > _MAX_SPLITS]),
        tuple(drawings),
        (grid,) if grid.lines else (),
        (*left, *more, *_NOTES),
    )


def steps_grid(found: Sequence[Sweep], *, batched: bool) -> tuple[Grid, list[str]]:
    """A line per step, in plan order, and what is to be said of those that are not shown."""
    curves = [curve for sweep in found for axis in AXES for curve in sweep.curves(axis)]
    every = ((curve, step) for curve in curves for step in curve.steps(batched=batched))
    shown = list(islice(every, MAX_STEPS))
    flagged = any(_flag_text(step) for _, step in shown)
    heads = (
        ("Case", False, ""),
        ("Held", False, "the settings that stay"),
        ("Step", False, "over the smallest value or over fp32; a resolution over the one before it"),
        ("Time [95 %]", True, "ratio of the medians, paired by round"),
        ("Images/s", True, "growth of the batch over the growth of the time"),
        ("Comes to", False, ""),
        ("Rounds", True, "pairs of rounds"),
        *((("Flags", False, "of either case"),) if flagged else ()),
    )
    lines = tuple(_line(curve, step, flagged=flagged) for curve, step in shown)
    return Grid("Steps along every axis", heads, lines), _left_out(curves, len(shown))


def _left_out(curves: Sequence[Curve], shown: int) -> list[str]:
    missing = sum(len(curve.rows) - 1 for curve in curves) - shown
    if not missing:
        return []
    if shown == MAX_STEPS:
        return [f"The table has the first {shown} of {shown + missing} steps."]
    return [
        f"Of {fmt.count(missing, 'more step')} the two cases have no round in common, so there is no ratio."
    ]


def comes_to(step: Step) -> str:
    """What the ratio means on its axis."""
    if step.axis == "threads":
        return f"efficiency {fmt.percent(step.efficiency)}"
    if step.axis == "batch":
        rate = step.after.summary.throughput_per_s
        return f"{fmt.significant(rate, 3)} images/s" if rate else ""
    if step.axis == "precision":
        return agreement.words(step.after.result)
    exponent, gmacs = step.exponent, step.gmacs
    spread = (
        "" if exponent.low is None or exponent.high is None else f" [{exponent.low:.2f}, {exponent.high:.2f}]"
    )
    grown = f", GMACs {fmt.ratio(gmacs)}" if gmacs else ""
    return f"exponent {exponent.value:.2f}{spread}{grown}"


def _line(curve: Curve, step: Step, *, flagged: bool) -> Line:
    time, images = step.time, step.images
    css = "doubtful" if step.before.serious or step.after.serious else "strong" if time.resolved else "tie"
    cells = [
        Cell(curve.sweep.label, css="name", title=step.after.case.label),
        Cell(words(curve.held)),
        Cell(step_words(step)),
        Cell(fmt.ratio_interval(time.value, time.low, time.high), time.value, css, _said(step)),
        Cell(fmt.ratio_interval(images.value, images.low, images.high), images.value),
        Cell(comes_to(step)),
        Cell(str(time.pairs), time.pairs),
    ]
    return Line((*cells, *((Cell(_flag_text(step), css="flagged"),) if flagged else ())))


def _said(step: Step) -> str:
    medians = [
        fmt.latency(row.summary.median_ns, row.summary.half_width) for row in (step.after, step.before)
    ]
    return f"{medians[0]} over {medians[1]}{'' if step.time.resolved else ': inside the noise'}"


def _flag_text(step: Step) -> str:
    """Those of the later case, and of the one it is compared with, by name."""
    return ", ".join(dict.fromkeys(flag.label for row in (step.after, step.before) for flag in row.flags))


def _drawings(
    found: Sequence[Sweep], unit: tuple[float, str], *, batched: bool
) -> tuple[list[Drawing], list[str]]:
    """At most MAX_FIGURES, maps first, and a sentence on those that are left out."""
    maps = list(_maps(found, unit))
    curves = list(_curve_figures(found, unit, batched=batched))
    some_curves = curves[: max(_MAX_CURVES, MAX_FIGURES - len(maps))]
    chosen = [*maps[: MAX_FIGURES - len(some_curves)], *some_curves]
    left = len(maps) + len(curves) - len(chosen)
    note = f"{len(chosen)} of {len(maps) + len(curves)} figures are shown, models in the order of the plan."
    return [make(f"scaling-{place}") for place, make in enumerate(chosen)], [note] if left else []


def _maps(found: Sequence[Sweep], unit: tuple[float, str]) -> Iterator[Make]:
    from reports import heat_map

    for sweep in found:
        for planned in heat_maps(sweep):
            yield partial(heat_map.drawing, planned, unit)


def _curve_figures(found: Sequence[Sweep], unit: tuple[float, str], *, batched: bool) -> Iterator[Make]:
    """Of every way of measuring (a frame) those axes that have lines."""
    from reports import sweep_figures

    frames = list(dict.fromkeys(sweep.frame for sweep in found))
    for frame in frames:
        of = [sweep for sweep in found if sweep.frame == frame]
        title = of[0].frame_title if len(frames) > 1 else ""
        if lines := _lines(of, "batch"):
            yield partial(sweep_figures.latency_per_image, lines, unit, note=_note(of, "batch", title))
        rated = [line for line in lines if all(row.summary.throughput_per_s for row in line.rows)]
        if rated:
            yield partial(sweep_figures.throughput, rated, note=_note(of, "batch", title))
        if lines := [line for line in _lines(of, "threads") if line.steps(batched=batched)]:
            note = _note(of, "threads", title)
            yield partial(sweep_figures.speed_up, lines, batched=batched, note=note)
        if lines := _lines(of, "resolution"):
            note = _note(of, "resolution", title)
            yield partial(sweep_figures.resolution, lines, unit, batched=batched, note=note)
        steps = list(islice(_precision_steps(of, batched=batched), sweep_figures.MAX_RATIOS))
        if steps:
            total = sum(len(curve.rows) - 1 for sweep in of for curve in sweep.curves("precision"))
            cut = f"the first {len(steps)} of {total}" if total > len(steps) else ""
            note = "; ".join(filter(None, (title, cut)))
            yield partial(sweep_figures.precision_ratios, steps, note=note)


def _precision_steps(of: Sequence[Sweep], *, batched: bool) -> Iterator[tuple[Curve, Step]]:
    for sweep in of:
        for curve in sweep.curves("precision"):
            for step in curve.steps(batched=batched):
                yield curve, step


def _lines(of: Sequence[Sweep], axis: str) -> list[Curve]:
    """The first line of every model, then the second of every one, and so on, as far as a figure holds them.

    Of more models than it holds, the first.
    """
    from reports.sweep_lines import MAX_LINES

    by_model = [curves for sweep in of if (curves := sweep.curves(axis))]
    chosen: list[Curve] = []
    for turn in range(max(map(len, by_model), default=0)):
        these = [curves[turn] for curves in by_model if turn < len(curves)]
        if chosen and len(chosen) + len(these) > MAX_LINES:
            break
        chosen += these
    return chosen[:MAX_LINES]


def _note(of: Sequence[Sweep], axis: str, title: str) -> str:
    total = sum(len(sweep.curves(axis)) for sweep in of)
    shown = len(_lines(of, axis))
    return "; ".join(filter(None, (title, f"{shown} of {total} lines" if shown < total else "")))
