"""What may be asked of a Core ML conversion: read from a request and checked, without a toolchain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from models.spec import WITHOUT_FORM, Option
from models.tables import suggest

# The specification that a deployment target writes; macOS 12 to 15 are of the same years.
TARGETS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9}

CHOICES = {
    "minimum_deployment_target": tuple(TARGETS),
    "input_type": ("tensor", "image"),
    "layout": ("ane", "plain"),
}
NAMES = (*CHOICES, "max_batch", "resolutions", WITHOUT_FORM)

# Operators that hold compressed weights came with iOS 16.
COMPRESSED_NEEDS = "iOS16"
MAX_BATCH = 2**16
MAX_SIDES = 128  # of enumerated shapes; Core ML's own limit
MAX_SIDE = 2**14


@dataclass(frozen=True, slots=True)
class PackageOptions:
    """`max_batch` above 0 leaves the batch size open up to it; `sides` are the input's other resolutions."""

    minimum_deployment_target: str = "iOS16"
    input_type: str = "tensor"
    layout: str = "ane"
    max_batch: int = 0
    sides: tuple[int, ...] = ()


def read(request: ConversionRequest) -> PackageOptions:
    """Raises ConversionError `bad_input` that names the option, its value and what is possible."""
    chosen = dict(request.build)
    for name, value in chosen.items():
        if name not in NAMES:
            raise refused(f"a Core ML conversion has no option '{name}': {suggest(name, NAMES)}")
        if name in CHOICES and value not in CHOICES[name]:
            raise refused(f"{name}={value}: {' or '.join(CHOICES[name])} is wanted")
    options = PackageOptions(
        **{name: str(value) for name, value in chosen.items() if name in CHOICES},
        max_batch=_max_batch(chosen.get("max_batch", 0), request),
        sides=_sides(chosen.get("resolutions", ""), request),
    )
    _check_together(options, request)
    return options


def _max_batch(value: Option, request: ConversionRequest) -> int:
    if value == 0 and not isinstance(value, bool):
        return 0
    least = max(2, request.batch_size)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_BATCH:
        raise refused(f"max_batch={value}: a whole number from {least} to {MAX_BATCH} is wanted")
    return value


def _sides(value: Option, request: ConversionRequest) -> tuple[int, ...]:
    """The sides of `192+224+256`, and that of the request, in order; empty where none are given."""
    if value == "":
        return ()
    words = re.split(r"[+,]", str(value))
    if isinstance(value, bool) or not all(re.fullmatch(r"[1-9]\d{0,4}", word) for word in words):
        raise refused(f"resolutions={value}: whole numbers with + between them are wanted, such as 192+224")
    sides = tuple(sorted({request.model.resolution, *(int(word) for word in words)}))
    if sides[-1] > MAX_SIDE or not 2 <= len(sides) <= MAX_SIDES:
        own = request.model.resolution
        raise refused(
            f"resolutions={value}: 1 to {MAX_SIDES - 1} sides beside {own} are wanted, of at most {MAX_SIDE}"
        )
    return sides


def _check_together(options: PackageOptions, request: ConversionRequest) -> None:
    compressed = "-" in request.precision
    if compressed and TARGETS[options.minimum_deployment_target] < TARGETS[COMPRESSED_NEEDS]:
        raise refused(
            f"{request.precision} needs minimum_deployment_target={COMPRESSED_NEEDS} or later, not "
            f"{options.minimum_deployment_target}"
        )
    if options.max_batch and options.sides:
        raise refused("max_batch and resolutions: Core ML takes one or the other; choose one")
    if options.input_type == "image":
        _check_image(options, request)


def _check_image(options: PackageOptions, request: ConversionRequest) -> None:
    channels = request.model.input_shape(1)[1]
    if request.model.is_block or channels != 3:
        raise refused(f"input_type=image: {request.model.name} takes {channels} channels, no RGB image")
    if request.batch_size != 1 or options.max_batch:
        raise refused("input_type=image: Core ML takes one image at a time; use batch size 1 or tensors")


def refused(message: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "request", message, advice="Change the request."))
