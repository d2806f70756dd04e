"""The images of a request: those that it is calibrated on, and those held out, that judge and time it.

What is wrong with them is the conversion's failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from converters.parity import Array
from models.calibration import CalibrationImages
from models.errors import DataError
from models.image_data import DIGITS


def calibrating(request: ConversionRequest) -> Iterator[Array]:
    """Inputs (B, 3, H, W), one after another. Raises ConversionError `bad_input`."""
    from models import calibration_draw

    images = CalibrationImages.parse(request.calibration)
    with _told():
        yield from calibration_draw.calibrating(_data(request), images, request.model, request.batch_size)


def held_out(request: ConversionRequest, first: int, count: int) -> tuple[Array, ...]:
    """Inputs `first` to `first + count - 1` of the split `val`. Raises ConversionError `bad_input`."""
    from models import calibration_draw

    with _told():
        return calibration_draw.judging(
            _data(request), request.model, request.batch_size, first=first, count=count
        )


def _data(request: ConversionRequest) -> str:
    """Where they lie: the bundled digits have no other place."""
    if request.calibration_data:
        return request.calibration_data
    images = CalibrationImages.parse(request.calibration)
    if images.name == DIGITS:
        return DIGITS
    raise DataError(
        f"a file calibrated on {images.label} is not in the cache, and where its images lie is not told"
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        advice = "Name the images with --calibrate: a folder with train/CLASS and val/CLASS, or digits."
        raise ConversionError(ConversionFailure("bad_input", "images", str(error), advice=advice)) from error
