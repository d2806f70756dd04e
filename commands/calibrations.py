"""Images for int8: `--calibrate DATA` of a suite or a conversion, or a matrix's `calibrate` in bench.toml."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError, options
from commands.config import Matrix
from commands.model_questions import asked
from models.image_data import DIGITS
from models.spec import Case
from runners import BackendInfo

if TYPE_CHECKING:
    from commands.plan import Overrides

OPTION, COUNT = "--calibrate", "--calibration-images"
PRECISION = "int8"


def add_arguments(parser: options.Options) -> None:
    parser.add_argument(
        OPTION, metavar="DATA", help="calibrate int8 on images: a folder with train/ and val/, or 'digits'"
    )
    parser.add_argument(COUNT, metavar="N", help="how many images of train (default: 128)")


def count_of(args: argparse.Namespace) -> int | None:
    """Raises UsageError for no number, and for one without images."""
    if args.calibration_images is None:
        return None
    if args.calibrate is None:
        raise UsageError(f"{COUNT} {args.calibration_images}: of which images? Name them with {OPTION}")
    return options.positive(COUNT)(args.calibration_images)


def data_of(text: str) -> str:
    """`digits`, or the folder as an absolute path. Raises UsageError for nothing."""
    if not text:
        raise UsageError(f"{OPTION}: is empty: name a folder, or {DIGITS}")
    return text if text == DIGITS else str(Path(text).expanduser().absolute())


def named(data: str, count: int | None, what: str) -> str:
    """The images as a Case holds them, looked up in a process of its own.

    Raises UsageError, which begins with `what`, for images that are none or too few.
    """
    (found,) = asked("models.calibration_check", [{"data": data, "count": count}])
    if "problem" in found:
        raise UsageError(f"{what} {data}: {found['problem']}")
    return str(found["images"])


class Calibrations:
    """On which images the int8 cases of a suite are calibrated: what the command line says, else a matrix.

    Images are looked up once, when a case needs them.
    """

    def __init__(self, overrides: Overrides) -> None:
        self._given, self._count = overrides.calibrate, overrides.calibration_images
        self._images: dict[str, str] = {}

    def of(self, matrix: Matrix, precision: str, info: BackendInfo) -> str:
        """As a Case holds it; empty for random inputs and for what needs none. Raises UsageError."""
        data = self._given or matrix.calibrate
        if not data or precision != PRECISION or not info.real:
            return ""
        if data not in self._images:
            what = OPTION if self._given else "calibrate ="
            self._images[data] = named(data, self._count, what)
        return self._images[data]

    @property
    def data(self) -> dict[str, str]:
        """Where the images lie, by what the cases hold."""
        return {images: data for data, images in self._images.items()}

    def check(self, cases: Sequence[Case]) -> None:
        """Raises UsageError where no case is calibrated, or cases differ in nothing but calibration."""
        if self._given and not any(case.calibration for case in cases):
            raise UsageError(
                f"{OPTION} {self._given}: no case of the suite is in {PRECISION}:"
                f" add --precision {PRECISION}, or leave it out"
            )
        seen: dict[Case, str] = {}
        for case in cases:
            other = seen.setdefault(replace(case, calibration=""), case.calibration)
            if other != case.calibration:
                raise UsageError(
                    f"{case.label}: the suite has it with another calibration too: keep one of the two"
                )
