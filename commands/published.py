"""What others published about the networks of a run, as the values that the reports take."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from models.paper_sizes import PAPER_SIZES
from models.published import Published, rows_of, table, unread
from models.spec import ModelSpec
from reports.records import PublishedFigure, PublishedLatency, PublishedPoint, StoredRun

# Classification by a network trained on ImageNet-1K alone. Weights trained on more images, and quantized
# networks, have latencies of the same networks and accuracies of others.
_NOT_COMPARABLE = ("6m", "22k", "ptq", "finetuned")
_RUNTIMES = ("TensorRT", "Core ML")
# Of backbones behind a head, by task: how the table's setting begins, the measure in it, and an axis's words.
_TASKS = {
    "det": ("MaskRCNN-1x", "box_AP", "COCO box AP as published, Mask R-CNN 1x"),
    "seg": ("SemanticFPN-80k", "mIoU_ss", "ADE20K mIoU as published, Semantic FPN 80k"),
}
_TABLE = "models/published.csv"
MAX_UNREAD = 8  # rows named one by one


def published_figures(run: StoredRun) -> tuple[PublishedFigure, ...]:
    """One figure for every network and resolution of the run that a table of others has.

    Recipes of training differ by percents: the accuracies of a family are from one table where one has them,
    the one that has most of its networks, whichever of them the run holds.
    """
    rows = _comparable_rows(run)
    return tuple(figure for key, some in rows.items() if (figure := _figure(*key, some)))


def published_points(run: StoredRun) -> tuple[PublishedPoint, ...]:
    """Others' accuracy-latency figures, whole: of every setup in which a network of the run was published; of
    these what is published of detection and segmentation, too, with the networks as backbones.
    """
    comparable = _comparable_rows(run)
    ours = {row.line: name for (name, _), some in comparable.items() for row in some}
    params_m = {row.model: row.params_m for row in reversed(table()) if row.task == "cls" and row.params_m}
    found: dict[tuple[str, str, int, str], PublishedPoint] = {}
    for row in sorted(table(), key=lambda row: row.digitised):
        if row.resolution is None or row.acc_top1 is None or not _comparable(row, row.resolution):
            continue
        for one in _latencies([row], *_RUNTIMES):
            found.setdefault(
                (one.runtime, one.setup, row.resolution, row.model),
                PublishedPoint(
                    row.model, row.family, row.resolution, row.acc_top1, one, row.setting,
                    row.params_m or params_m.get(row.model), ours.get(row.line, ""),
                ),
            )  # fmt: skip
    wanted = {key[:3] for key, point in found.items() if point.model}
    whole = tuple(point for key, point in found.items() if key[:3] in wanted)
    names = {row.model: name for (name, _), some in comparable.items() for row in some}
    return (*whole, *_as_backbones(names, params_m, {key[:2] for key in wanted}))


def _as_backbones(
    names: Mapping[str, str], params_m: Mapping[str, float], setups: Set[tuple[str, str]]
) -> Iterator[PublishedPoint]:
    """In each task and setup every network once; a figure from a table before one read off a plot."""
    found: dict[tuple[str, str, str, str], PublishedPoint] = {}
    for row in sorted(table(), key=lambda row: row.digitised):
        begins, measure, words = _TASKS.get(row.task, ("", "", ""))
        value = dict(row.metrics).get(measure)
        if value is None or not row.setting.startswith(begins) or _is_special(row):
            continue
        for one in _latencies([row], *_RUNTIMES):
            if (one.runtime, one.setup) in setups:
                found.setdefault(
                    (row.task, one.runtime, one.setup, row.model),
                    PublishedPoint(
                        row.model, row.family, 0, value, one, row.setting, params_m.get(row.model),
                        names.get(row.model, ""), words,
                    ),
                )  # fmt: skip
    yield from found.values()


def unread_figures(run: StoredRun) -> tuple[str, ...]:
    """What is wrong with rows of the table, each with its place; none where it concerns none of the run."""
    return unread_of_table() if _networks(run) else ()


def unread_of_table() -> tuple[str, ...]:
    """Each row that cannot be true: file, line, column, value and why; of many the first ones, and how many
    more.
    """
    told = [f"{_TABLE}, {text}" for text in unread()]
    left = len(told) - MAX_UNREAD
    if left > 1:
        told[MAX_UNREAD:] = [f"{_TABLE}: {left} more rows that cannot be true"]
    return tuple(told)


def _comparable_rows(run: StoredRun) -> dict[tuple[str, int], list[Published]]:
    """By name and resolution of the run's networks; none of a block or of other options than published."""
    return {
        (model.name, model.resolution): [
            row for row in rows_of(model.name) if _comparable(row, model.resolution)
        ]
        for model in _networks(run)
    }


def _networks(run: StoredRun) -> list[ModelSpec]:
    models = dict.fromkeys(result.case.model for result in run.results)
    return [model for model in models if not (model.is_block or model.options)]


@functools.cache
def _origins() -> Counter[tuple[str, str, str, int | None]]:
    """How many of the networks that papers compare each table has an accuracy of."""
    return Counter(
        origin
        for size in PAPER_SIZES
        for origin in {
            _origin(row) for row in rows_of(size.model) if row.acc_top1 and _comparable(row, size.resolution)
        }
    )


def _origin(row: Published) -> tuple[str, str, str, int | None]:
    return row.family, row.source, row.setting, row.resolution


def _is_own(row: Published) -> bool:
    """Is it from the authors, whose README or paper is named as their networks are?"""
    family, source = (re.sub("[^a-z0-9]", "", text.lower()) for text in (row.family, row.source))
    return family in source


def _figure(name: str, resolution: int, rows: Sequence[Published]) -> PublishedFigure | None:
    """None where nothing is published.

    Of several accuracies, that of the table with most of the family, and of equals the authors' own.
    """
    accurate = min(
        (row for row in rows if row.acc_top1),
        key=lambda row: (row.digitised, -_origins()[_origin(row)], not _is_own(row)),
        default=None,
    )
    latencies = tuple(one for runtime in _RUNTIMES for one in _latencies(rows, runtime))
    if not latencies and accurate is None:
        return None
    return PublishedFigure(
        name,
        resolution,
        _said_of(accurate) if accurate else "",
        accurate.acc_top1 if accurate else None,
        latencies,
        rows[0].family,
    )


def _said_of(row: Published) -> str:
    """Where an accuracy stands, of which weights where timm's tables tell, and what those were trained on."""
    weights = f", {row.model}" if row.source.startswith("timm") else ""
    return f"{row.source}{weights} ({row.setting})"


def _comparable(row: Published, resolution: int) -> bool:
    return (
        row.task == "cls"
        and row.resolution == resolution
        and row.setting.lower().startswith("imagenet-1k")
        and not _is_special(row)
    )


def _is_special(row: Published) -> bool:
    return any(word in row.setting.lower() for word in _NOT_COMPARABLE)


def _latencies(rows: Sequence[Published], *runtimes: str) -> list[PublishedLatency]:
    """Each setup once; a figure from a table before one that was read off a plot."""
    found: dict[tuple[str, str], PublishedLatency] = {}
    for row in sorted(rows, key=lambda row: row.digitised):
        for runtime in runtimes:
            one = row.tensorrt if runtime == "TensorRT" else row.coreml
            if one:
                error = _reading_error(row, runtime) if row.digitised else ""
                found.setdefault(
                    (runtime, one.setup),
                    PublishedLatency(one.ms, runtime, one.setup, row.source, error, _number(error)),
                )
    return list(found.values())


def _reading_error(row: Published, runtime: str) -> str:
    """`±0.1 ms`: a note tells the error of the TensorRT axis first, then that of the Core ML axis."""
    told = row.notes.partition("error ")[2].partition(";")[0].split(" / ")
    return (told[0] if runtime == "TensorRT" else told[-1]).replace("+-", "±")


def _number(error: str) -> float:
    """0.1 of `±0.1 ms`, 0 where nothing is told."""
    found = re.search(r"[\d.]+", error)
    return float(found[0]) if found else 0.0
