"""From labelled images to what a file predicts for them, and its eager form beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commands import UsageError
from commands.eval_process import EvaluationError, Images, Predictor
from commands.eval_subject import Subject
from models.errors import DataError
from models.image_data import ImageData, Preprocessing, Unreadable, eval_transform, preprocessing
from models.image_loading import eval_batches
from models.spec import digest
from reports.evaluations import NO_EAGER, NOT_FINITE, EvaluatedFile, Evaluation, ImageSet
from runners.measurement import Samples

DECODERS = 8  # processes at most
FEW = 2_000  # images that are decoded before other processes have started
SAID_EVERY_NS = 15_000_000_000


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was predicted: `names` and `labels` of the images that could be read, in order."""

    names: tuple[str, ...]
    labels: Samples
    predicted: Samples
    ranks: Samples
    eager: Samples
    outputs: int
    tool: str
    eager_tool: str
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of equal size, `count` of them real and the rest copies of the last, with names and labels."""

    names: list[str]
    labels: list[int]
    images: Images

    @property
    def count(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Running:
    """CPU threads of each file that is run, the device of an engine, and how long to wait for an answer."""

    threads: int
    device: str
    deadline_seconds: float


def predict(
    subject: Subject, data: ImageData, steps: Preprocessing, running: Running, *, say: Callable[[str], None]
) -> Predictions:
    """Run all images through the file, and through its eager form where that is here, side by side.

    Raises EvaluationError for a file that gives no outputs, DataError for images that cannot be read,
    UsageError for a network with another number of classes than the images have.
    """
    unreadable = Unreadable(data)
    with ExitStack() as stack:
        file = stack.enter_context(
            Predictor(job_of(subject, running), str(subject.path), deadline_seconds=running.deadline_seconds)
        )
        eager = None
        if subject.has_eager_form:
            eager = stack.enter_context(
                Predictor(eager_job(subject), "eager form", deadline_seconds=running.deadline_seconds)
            )
        tools = file.tool(), eager.tool() if eager else ""
        parts = [
            _answers(batch, subject, data, steps, (file, eager))
            for batch in _told(_batches(data, steps, subject.shape[0], unreadable), data, say)
        ]
    if not parts:
        raise DataError(f"{data.name}: no image of {data.split} can be read")
    names = tuple(name for batch, *_ in parts for name in batch.names)
    labels = np.array([label for batch, *_ in parts for label in batch.labels], np.int64)
    outputs = np.concatenate([given for _, given, _ in parts])
    return Predictions(
        names, labels, predicted_of(outputs), ranks_of(outputs, labels),
        predicted_of(np.concatenate([given for *_, given in parts])) if eager else NO_EAGER,
        outputs.shape[1], *tools, tuple(unreadable.found.values()),
    )  # fmt: skip


def evaluated(
    subject: Subject, data: ImageData, steps: Preprocessing, running: Running, *, command: str,
    say: Callable[[str], None],
) -> tuple[Evaluation, Predictions]:  # fmt: skip
    """What `predict` finds, which it also raises, as the value that is stored; `command` is kept with it."""
    began_ns, start_ns = time.time_ns(), time.perf_counter_ns()
    found = predict(subject, data, steps, running, say=say)
    took = time.perf_counter_ns() - start_ns
    return _evaluation_of(subject, data, steps, found, moment=(began_ns, took), command=command), found


def job_of(subject: Subject, running: Running) -> dict[str, Any]:
    """What the process that runs the file is told (eval_worker.load)."""
    if subject.kind == "checkpoint":
        return eager_job(subject)
    options = {"builder": subject.builder} if subject.builder else {}
    return {
        "backend": subject.backend,
        "path": str(subject.path.absolute()),
        "shape": list(subject.shape),
        "dtype": subject.input_dtype,
        "precision": subject.precision,
        "threads": running.threads,
        "device": running.device if subject.kind == "engine" else "cpu",
        "options": options,
    }


def eager_job(subject: Subject) -> dict[str, Any]:
    assert subject.spec is not None
    checkpoint = str(subject.checkpoint.absolute()) if subject.checkpoint else ""
    return {"backend": "eager", "model": subject.spec.to_dict(), "checkpoint": checkpoint}


def steps_for(subject: Subject, data: ImageData) -> Preprocessing:
    """Of the model where it is known, else what is usual for ImageNet."""
    name = subject.spec.name if subject.spec else ""
    return preprocessing(name, resolution=subject.shape[2], fills_frame=data.fills_frame)


def _evaluation_of(
    subject: Subject, data: ImageData, steps: Preprocessing, found: Predictions, *,
    moment: tuple[int, int], command: str,
) -> Evaluation:  # fmt: skip
    file = EvaluatedFile(
        subject.path.name, subject.kind, subject.sha256, subject.precision, found.tool, subject.shape[0],
        subject.key, subject.flavour, subject.spec, backend=subject.backend,
    )  # fmt: skip
    told = [[_inside(data, name), int(label)] for name, label in zip(found.names, found.labels, strict=True)]
    images = ImageSet(
        Path(data.name).resolve().name if not data.in_memory else data.name, data.split, digest(told),
        data.classes, len(found.skipped), described(steps),
    )  # fmt: skip
    return Evaluation(
        *moment, command, file, images, found.outputs, found.labels, found.predicted,
        found.ranks, found.eager, found.eager_tool,
    )  # fmt: skip


def described(steps: Preprocessing) -> str:
    """`bicubic, center crop 0.875, 224x224, mean 0.485/0.456/0.406, std 0.229/0.224/0.225`."""
    mean, std = ("/".join(f"{value:g}" for value in values) for values in (steps.mean, steps.std))
    size = f"{steps.resolution}x{steps.resolution}"
    crop = f"{steps.crop_mode} crop {steps.crop_pct:g}"
    return f"{steps.interpolation}, {crop}, {size}, mean {mean}, std {std}"


def predicted_of(outputs: Images) -> Samples:
    """The class with the largest output, the first of equal ones; NOT_FINITE where one is not finite."""
    finite = np.isfinite(outputs).all(axis=1)
    best: Samples = np.where(finite, np.argmax(np.nan_to_num(outputs), axis=1), NOT_FINITE)
    return best


def ranks_of(outputs: Images, labels: Samples) -> Samples:
    """How many classes come before the right one, of equal outputs those that are listed first."""
    right = outputs[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(outputs.shape[1])[None, :] < labels[:, None]
    before = (outputs > right) | ((outputs == right) & earlier)
    finite = np.isfinite(outputs).all(axis=1)
    ranks: Samples = np.where(finite, before.sum(axis=1), outputs.shape[1])
    return ranks


def _batches(data: ImageData, steps: Preprocessing, size: int, unreadable: Unreadable) -> Iterator[Batch]:
    """All images that can be read, in order, in batches of `size`, filled up where some are missing."""
    workers = 0 if data.in_memory or len(data) < FEW else min(DECODERS, os.cpu_count() or 1)
    loaded = eval_batches(data, eval_transform(steps), batch_size=size, workers=workers)
    for number, found in enumerate(loaded):
        for index, reason in found.unreadable:
            unreadable.add(index, reason)
        lost = {index for index, _ in found.unreadable}
        first = number * size
        read = [index for index in range(first, min(first + size, len(data))) if index not in lost]
        if read:
            images: Images = found.images.numpy()
            filled = np.concatenate([images, np.repeat(images[-1:], size - len(images), axis=0)])
            yield Batch([data.label_of(index) for index in read], found.labels.tolist(), filled)


def _answers(
    batch: Batch,
    subject: Subject,
    data: ImageData,
    steps: Preprocessing,
    both: tuple[Predictor, Predictor | None],
) -> tuple[Batch, Images, Images]:
    """Outputs of the file and of the eager form, which work at the same time."""
    file, eager = both
    file.send(_pixels(batch.images, steps) if subject.takes_pixels else batch.images)
    if eager is not None:
        eager.send(batch.images)
    given = _checked(file.receive(), subject, data, batch)
    reference = _checked(eager.receive(), subject, data, batch) if eager is not None else given
    return Batch(batch.names, batch.labels, batch.images[:0]), given, reference


def _pixels(images: Images, steps: Preprocessing) -> Images:
    from converters.mlpackage_image import Normalization

    mean, std = (tuple(float(v) for v in values) for values in (steps.mean, steps.std))
    return Normalization(mean, std).pixels([images])[0]  # type: ignore[arg-type]


def _checked(outputs: Images, subject: Subject, data: ImageData, batch: Batch) -> Images:
    """Those of the images that are no copies, one value for each class."""
    if outputs.ndim != 2 or len(outputs) != len(batch.images):
        shape = "x".join(str(side) for side in outputs.shape)
        raise EvaluationError(
            f"{subject.path} gives outputs of {shape} for {len(batch.images)} images; a classifier gives one"
            " value for each class",
            "bad_input",
        )
    require_classes(subject, outputs.shape[1], data)
    return outputs[: batch.count]


def require_classes(subject: Subject, outputs: int, data: ImageData) -> None:
    """Raises UsageError for a network with another number of outputs than the images have classes."""
    if outputs != len(data.classes):
        raise UsageError(
            f"{subject.path} has {outputs} outputs, {data.name} has {len(data.classes)} classes: the images"
            " must be of the classes that the network was trained on, in the same order"
        )


def _told(batches: Iterator[Batch], data: ImageData, say: Callable[[str], None]) -> Iterator[Batch]:
    done, said_ns = 0, time.monotonic_ns()
    for batch in batches:
        yield batch
        done += batch.count
        if time.monotonic_ns() - said_ns > SAID_EVERY_NS:
            said_ns = time.monotonic_ns()
            say(f"{done:,} of {len(data):,} images")


def _inside(data: ImageData, name: str) -> str:
    """A name that is the same wherever the folder lies."""
    return name if data.in_memory else Path(name).relative_to(data.name).as_posix()
