"""The inputs that an int8 graph gets its ranges from, and the others on which it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from converters.artifact import JUDGED, ConversionRequest
from converters.calibration_images import calibrating
from converters.parity import Array
from converters.source import Source, run_eager
from models.calibration import CalibrationImages
from models.spec import Option

# Images, at least. Ranges of random inputs hardly widen beyond 16. JUDGED of these tell an agreement of
# 15 from one of 16, no more, and of real images 64 more of it: labelled images tell the rest (`eval`).
CALIBRATED = 16
JUDGED_IMAGES = 64
_FIRST = 2**16  # of random calibration: no input that is judged or timed has such a number


@dataclass(frozen=True, slots=True)
class Calibration:
    """`inputs` give the ranges; `judged` holds other inputs, and the eager outputs for them.

    `told` says in words which they are, `facts` in figures.
    """

    inputs: Iterable[Array]
    judged: Source
    told: str
    facts: Mapping[str, Option]


def calibration_of(request: ConversionRequest, source: Source) -> Calibration:
    """Of the images that a request names, else of random inputs; none of them is both kinds.

    Raises ConversionError `bad_input` for images that are not there.
    """
    return _on_images(request, source) if request.calibration else _random(source)


def _random(source: Source) -> Calibration:
    batch_size = len(source.inputs[0])
    inputs = source.draw(_FIRST, _batches(CALIBRATED, batch_size))
    judged = _judged(source, _batches(JUDGED, batch_size))
    facts: dict[str, Option] = {
        "calibration": "random",
        "calibration_images": len(inputs) * batch_size,
        "judged_images": len(judged.inputs) * batch_size,
    }
    told = (
        f"calibrated on {facts['calibration_images']} random inputs, for latency, not for accuracy;"
        f" judged on {facts['judged_images']} others"
    )
    return Calibration(inputs, judged, told, facts)


def _on_images(request: ConversionRequest, source: Source) -> Calibration:
    images = CalibrationImages.parse(request.calibration)
    dtype, batch_size = source.inputs[0].dtype, request.batch_size
    judged = _judged(source, _batches(JUDGED_IMAGES, batch_size))
    facts: dict[str, Option] = {
        "calibration": images.name,
        "calibration_images": images.count,
        "calibration_sha256": images.sha256,
        "judged_images": len(judged.inputs) * batch_size,
    }
    told = (
        f"calibrated on {images.count} images of {images.name}, train (sha256 {images.sha256[:12]});"
        f" judged on {facts['judged_images']} of its val"
    )
    return Calibration((value.astype(dtype) for value in calibrating(request)), judged, told, facts)


def _judged(source: Source, batches: int) -> Source:
    """The source with at least so many inputs: its own, and where those are fewer the next ones."""
    own = len(source.inputs)
    if batches <= own:
        return source
    more = source.draw(own, batches - own)
    return replace(
        source,
        inputs=(*source.inputs, *more),
        reference=(*source.reference, *run_eager(source.net, more)),
    )


def _batches(images: int, batch_size: int) -> int:
    return -(-images // batch_size)
