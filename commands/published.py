"""What others published about the networks of a run, as the values that the reports take."""

from __future__ import annotations

from collections.abc import Sequence

from models.published import Published, rows_of
from models.spec import ModelSpec
from reports.records import PublishedFigure, PublishedLatency, StoredRun

# Classification by a network trained on ImageNet-1K alone. Weights trained on more images, and quantized
# networks, have latencies of the same networks and accuracies of others.
_NOT_COMPARABLE = ("6m", "22k", "ptq", "finetuned")


def published_figures(run: StoredRun) -> tuple[PublishedFigure, ...]:
    """One figure for every network and resolution of the run that a table of others has."""
    models = dict.fromkeys(result.case.model for result in run.results)
    figures = {(model.name, model.resolution): figure for model in models if (figure := _figure(model))}
    return tuple(figures.values())


def _figure(model: ModelSpec) -> PublishedFigure | None:
    """None for a block, and for a network of other options than the published one."""
    if model.is_block or model.options:
        return None
    rows = [row for row in rows_of(model.name) if _comparable(row, model.resolution)]
    accurate = min((row for row in rows if row.acc_top1), key=lambda row: row.digitised, default=None)
    latencies = (*_latencies(rows, "TensorRT"), *_latencies(rows, "Core ML"))
    if not latencies and accurate is None:
        return None
    return PublishedFigure(
        model.name,
        model.resolution,
        f"{accurate.source} ({accurate.setting})" if accurate else "",
        accurate.acc_top1 if accurate else None,
        latencies,
    )


def _comparable(row: Published, resolution: int) -> bool:
    setting = row.setting.lower()
    return (
        row.task == "cls"
        and row.resolution == resolution
        and setting.startswith("imagenet-1k")
        and not any(word in setting for word in _NOT_COMPARABLE)
    )


def _latencies(rows: Sequence[Published], runtime: str) -> list[PublishedLatency]:
    """Each setup once; a figure from a table before one that was read off a plot."""
    found: dict[str, PublishedLatency] = {}
    for row in sorted(rows, key=lambda row: row.digitised):
        one = row.tensorrt if runtime == "TensorRT" else row.coreml
        if one:
            error = _reading_error(row, runtime) if row.digitised else ""
            found.setdefault(one.setup, PublishedLatency(one.ms, runtime, one.setup, row.source, error))
    return list(found.values())


def _reading_error(row: Published, runtime: str) -> str:
    """`±0.1 ms`: a note tells the error of the TensorRT axis first, then that of the Core ML axis."""
    told = row.notes.partition("error ")[2].partition(";")[0].split(" / ")
    return (told[0] if runtime == "TensorRT" else told[-1]).replace("+-", "±")
