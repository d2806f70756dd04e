"""What makes a training the same one: what it learns from, told apart without reading an image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import CheckpointError
from models.image_data import ImageData


@dataclass(frozen=True, slots=True)
class Sources:
    """What a training learns from, as sha256: classes and labels, image files, the teacher's weights.

    `files` are names and sizes in the order of the images, or pixels that are in memory anyway.
    """

    images: str
    files: str
    teacher_weights: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def sources(splits: Iterable[ImageData], teacher_checkpoint: Path | None) -> Sources:
    """Raises CheckpointError where there is no file of the teacher's."""
    labels, files = hashlib.sha256(), hashlib.sha256()
    for data in splits:
        labels.update(repr(data.classes).encode())
        labels.update(data.labels.tobytes())
        files.update(_listing(data))
    return Sources(labels.hexdigest(), files.hexdigest(), _weights(teacher_checkpoint))


def _listing(data: ImageData) -> bytes:
    """The path inside of the folder and the size in bytes of every image, so that the folder may move."""
    if not isinstance(data.sources, tuple):
        return data.sources.tobytes()
    folder = f"{data.name}{os.sep}"
    return b"".join(
        b"%s\0%d\n" % (os.fsencode(source.removeprefix(folder)), _size_bytes(source))
        for source in data.sources
    )


def _size_bytes(path: str) -> int:
    """-1 where there is none, as behind a broken link: such an image is left out when its turn comes."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path costs more than the call, a million times
    except OSError:
        return -1


def _weights(path: Path | None) -> str:
    if path is None:
        return ""
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_same(
    path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any], *, note: Callable[[str], None]
) -> None:
    """Raises CheckpointError that names the first thing in which the training in `path` is another one.

    Trainings that were begun before files were told apart go on where classes and labels are equal.
    """
    fix = "give the values it was begun with, or another folder"
    if saved["model"] != wanted["model"]:
        raise CheckpointError(f"{path}: is a training of {saved['model']}, not of {wanted['model']}: {fix}")
    if saved["teacher"] != wanted["teacher"]:
        before, now = (table["teacher"] or "none" for table in (saved, wanted))
        raise CheckpointError(f"{path}: was begun with teacher={before}, now it is {now}: {fix}")
    for table in ("options", "recipe"):
        for name in {**saved[table], **wanted[table]}:
            before, now = saved[table].get(name), wanted[table].get(name)
            if before != now:
                raise CheckpointError(f"{path}: was begun with {name}={before}, now it is {now}: {fix}")
    _check_sources(path, saved, wanted, note=note)


def _check_sources(
    path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any], *, note: Callable[[str], None]
) -> None:
    kinds = {
        "images": "other classes or labels: give that data",
        "files": "other images (their names or sizes differ): give that data",
        "teacher_weights": f"other weights of {wanted['teacher']}: give that --teacher-checkpoint",
    }
    for key, what in kinds.items():
        if key in saved and saved[key] != wanted[key]:
            raise CheckpointError(f"{path}: was begun with {what}, or another folder")
    if "files" not in saved:
        note(
            f"{path}: was begun by a version that kept neither names and sizes of images nor the teacher's"
            " weights: only classes and labels were compared"
        )
