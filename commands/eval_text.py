"""An evaluation in words: lines for the terminal, a table of all images, and the images that differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.spec import Option
from reports import formatting as fmt
from reports.evaluations import NOT_FINITE, Evaluation
from reports.measured_accuracy import agreement_text, share_text

WORST = 5  # classes that are named
COLUMNS = ("image", "label", "predicted", "rank", "eager")


def lines(evaluation: Evaluation, calibration: Mapping[str, Option]) -> Iterator[str]:
    """What a terminal shows; `calibration` are the facts of an int8 file's record, as far as it has any."""
    file, images = evaluation.file, evaluation.images
    model = f"{file.model.name} {file.model.shape_label}, " if file.model else ""
    yield f"{fmt.printable(file.name)} ({model}{file.kind}, {file.precision}, batch {file.batch_size})"
    yield f"  {'data':<12} {fmt.printable(evaluation.data)}, {images.skipped} skipped"
    yield f"  {'input':<12} {images.transform}"
    yield f"  {'run by':<12} {file.tool}"
    if file.precision == "int8":
        yield f"  {'calibrated':<12} {_calibrated(calibration)}"
    yield f"  {'top-1':<12} {share_text(evaluation.top1)}"
    if evaluation.top5 is not None:
        yield f"  {'top-5':<12} {share_text(evaluation.top5)}"
    if evaluation.agreement is not None and evaluation.eager_top1 is not None:
        yield f"  {'eager top-1':<12} {share_text(evaluation.eager_top1)} ({evaluation.eager_tool})"
        yield f"  {'agreement':<12} {agreement_text(evaluation)}"
    elif file.kind != "checkpoint":
        yield f"  {'agreement':<12} not known: name the --checkpoint (and --model) that the file was made of"
    if evaluation.not_finite:
        images_told = fmt.count(evaluation.not_finite, "image")
        yield f"  {'not finite':<12} outputs for {images_told}: counted as wrong"
    worst = sorted(evaluation.per_class.items(), key=lambda item: item[1].value)[:WORST]
    named = [f"{fmt.printable(name)} {100 * s.value:.1f} %" for name, s in worst if s.hits < s.count]
    yield f"  {'worst class':<12} {', '.join(named) or 'none: every image is right'}"
    yield f"  {'':<12} intervals at 95 %, after Wilson; --csv or --json tells every image"


def _calibrated(facts: Mapping[str, Option]) -> str:
    """`on 128 images of digits, train (sha256 0123456789ab)`."""
    name, count, sha256 = (facts.get(f"calibration{which}") for which in ("", "_images", "_sha256"))
    if name is None or count is None:
        return "not known on what"
    if sha256 is None:
        return f"on {count} random inputs: for a latency, not for an accuracy"
    return fmt.printable(f"on {count} images of {name}, train (sha256 {str(sha256)[:12]})")


def table(evaluation: Evaluation, names: Sequence[str]) -> str:
    """CSV with a line for every image: classes by name, the right one's rank from 1 on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, name in enumerate(names):
        eager = _name(evaluation, int(evaluation.eager[index])) if evaluation.eager.size else ""
        writer.writerow(
            (
                name,
                _name(evaluation, int(evaluation.labels[index])),
                _name(evaluation, int(evaluation.predicted[index])),
                int(evaluation.ranks[index]) + 1,
                eager,
            )
        )
    return text.getvalue()


def differences(evaluation: Evaluation, names: Sequence[str]) -> list[dict[str, Any]]:
    """The images for which the file and its eager form do not predict the same class."""
    return [
        {
            "image": names[index],
            "label": _name(evaluation, int(evaluation.labels[index])),
            "predicted": _name(evaluation, int(evaluation.predicted[index])),
            "eager": _name(evaluation, int(evaluation.eager[index])),
        }
        for index in evaluation.differing.tolist()
    ]


def _name(evaluation: Evaluation, index: int) -> str:
    return "" if index == NOT_FINITE else evaluation.images.classes[index]
