"""Where the weights of an ONNX file may lie: plain files in its folder or below it. onnx is not needed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath


class ExternalDataError(ValueError):
    """A location outside the file's folder, or no plain file there: a phrase that says where it is."""


def place_of(folder: Path, location: str) -> Path:
    """The file that `location` names, below `folder`. Raises ExternalDataError.

    Refused are absolute paths, `..`, paths of other systems, links, and folders that lead elsewhere.
    """
    pure = PurePosixPath(location)
    drive = len(location) > 1 and location[1] == ":"
    foreign = "\\" in location or "\0" in location or drive
    if not location or pure.is_absolute() or ".." in pure.parts or foreign:
        raise ExternalDataError(f"is in {location[:100]!r}, outside of the file's folder")
    place = folder / pure
    if not place.is_file() or not place.resolve().is_relative_to(folder.resolve()) or place.is_symlink():
        raise ExternalDataError(f"is in {location[:100]!r}, which is no plain file there")
    return place
