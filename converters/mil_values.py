"""The values that a Core ML program is given and holds, as torch tensors in the type that is computed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from converters.mil_call import Argument, Shape
from converters.mil_load import Package, PackageError
from converters.parity import Array

# Types that torch has no arithmetic for are computed in one that holds them.
INTEGERS = {
    "int32": torch.int32,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int8": torch.int16,
    "uint8": torch.int16,
    "bool": torch.bool,
}

Round = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An input of pixels: `swapped` where the program takes blue first, `whole` where they are bytes."""

    swapped: bool
    whole: bool


def images(package: Package) -> dict[str, ImageInput]:
    """The image inputs of a package, by name. Raises PackageError."""
    found = {}
    for value in package.specification.description.input:
        if value.type.WhichOneof("Type") == "imageType":
            image = value.type.imageType
            if image.colorSpace not in image.ColorSpace.values():
                raise PackageError(f"image '{value.name}' has an unknown color space ({image.colorSpace})")
            space = image.ColorSpace.Name(image.colorSpace)
            found[value.name] = ImageInput(space == "BGR", "FLOAT16" not in space)
    return found


def rounder(rounding: bool, dtype: torch.dtype) -> Round:
    """A function from a result and its declared type to the value that goes on, of `dtype`."""

    def round_to(value: Tensor, declared: str) -> Tensor:
        if declared in INTEGERS:
            return value.to(INTEGERS[declared])
        if rounding:
            value = value.half() if declared == "fp16" else value.float()
        return value.to(dtype)

    return round_to


def fed(variable: Any, name: str, feeds: Mapping[str, Array], image: ImageInput | None) -> Tensor:
    """The value of an input. Raises PackageError for one that is missing, of another shape or no image."""
    if name not in feeds:
        raise PackageError(f"the program has an input '{name}', and was given {', '.join(feeds) or 'none'}")
    value: npt.NDArray[Any] = np.asarray(feeds[name])
    declared = shape_of(variable)
    if not fits(value.shape, declared):
        raise PackageError(f"input '{name}' has shape {declared}, and was given {value.shape}")
    if image is not None:
        value = _pixels(name, value, image)
    return torch.from_numpy(np.array(value))


def _pixels(name: str, value: npt.NDArray[Any], image: ImageInput) -> npt.NDArray[Any]:
    # NaN and infinities differ from what they are clipped to, or from themselves.
    if image.whole and not bool((value == np.clip(np.round(value), 0, 255)).all()):
        raise PackageError(f"input '{name}' is an image: give whole numbers from 0 to 255")
    return value[:, ::-1] if image.swapped else value


def argument(value: Any, values: Mapping[str, Tensor], dtype: torch.dtype) -> Argument:
    """What an operator is given for one of its inputs: a tensor, several of them, or a word."""
    if isinstance(value, list | tuple):
        return tuple(_tensor(item, values, dtype) for item in value)
    if isinstance(value.val, str):
        return value.val
    return _tensor(value, values, dtype)


def _tensor(value: Any, values: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    if value.name in values:
        return values[value.name]
    if value.val is None:
        raise PackageError(f"the value '{value.name}' is used before an operator computes it")
    return _constant(value.val, dtype)


def _constant(value: Any, dtype: torch.dtype) -> Tensor:
    """Floating-point constants in the type that is computed in; fp16 is exact in it."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return torch.from_numpy(np.array(array, np.float32)).to(dtype)
    if array.dtype.kind == "b":
        return torch.from_numpy(np.array(array))
    if array.dtype.kind not in "iu":
        raise PackageError(f"a constant of type {array.dtype}")
    return torch.from_numpy(array.astype(np.int64)).to(torch.int32)


def shape_of(variable: Any) -> Shape:
    """Sides; None where a side is open."""
    return tuple(int(side) if isinstance(side, int | np.integer) else None for side in variable.shape)


def type_of(variable: Any) -> str:
    """`fp16`, `int32`, `bool`, ..."""
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(variable.dtype))


def fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return len(shape) == len(declared) and all(
        side in (None, size) for side, size in zip(declared, shape, strict=True)
    )
