"""Labelled images: folders in ImageNet's layout, or the digits that scikit-learn brings along.

A folder holds `train/CLASS/*.jpg` and `val/CLASS/*.jpg` (any format that torchvision lists). The digits are
1797 grey images of 8x8 pixels (UCI, Optical Recognition of Handwritten Digits); every fifth of a class is
held out as `val`. Nothing is decoded before it is asked for, and what cannot be decoded is named.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, ReadingError, UnreadableImageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DIGITS = "digits"
SPLITS = ("train", "val")
LAYOUT = "train/CLASS/*.jpg and val/CLASS/*.jpg"
HELD_OUT = 5  # every fifth image of a class is in `val`
UNREADABLE_SHARE = 0.01
SHOWN = 5

# What the system says of one file that is missing, locked away or no file, and of a place to read from that a
# damaged one names and nothing has (EINVAL).
OF_ONE_FILE = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """One split: `labels[i]` is the place in `classes` of image i.

    `sources` are paths, or pixels (N, H, W) uint8. `fills_frame`: the subject reaches to the edges, so that
    nothing may be cropped away.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    sources: tuple[str, ...] | NDArray[np.uint8]
    fills_frame: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        return not isinstance(self.sources, tuple)

    def label_of(self, index: int) -> str:
        """What messages call image `index`: its path, or its number."""
        return self.sources[index] if isinstance(self.sources, tuple) else f"{self.name} {self.split} {index}"

    def load(self, index: int) -> Image:
        """Image `index`, decoded, in RGB.

        Raises UnreadableImageError for a file that is missing or damaged, ReadingError where the machine
        cannot read it now.
        """
        from PIL import Image

        if not isinstance(self.sources, tuple):
            return Image.fromarray(self.sources[index]).convert("RGB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of metadata, which nobody reads here
            try:
                with Path(self.sources[index]).open("rb") as file, Image.open(file) as image:
                    return image.convert("RGB")
            except Exception as error:  # a damaged file makes decoders raise nearly anything
                raise _not_read(self.sources[index], error) from error


def _not_read(source: str, error: Exception) -> ReadingError | UnreadableImageError:
    """Which of the two it is. Decoders raise OSError too, but with no number of the system's."""
    from PIL import UnidentifiedImageError

    if isinstance(error, MemoryError):
        return ReadingError(f"{source}: out of memory while it was decoded")
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and not Path(source).parent.is_dir():
        return ReadingError(f"{source}: its folder is gone: see that the disk or share is still mounted")
    if number in (errno.EMFILE, errno.ENFILE):
        return ReadingError(f"{source}: {os.strerror(number)}: raise the limit (ulimit -n)")
    if number is not None and number not in OF_ONE_FILE:
        return ReadingError(f"{source}: {os.strerror(number)}: see that its disk or share works")
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImageError(f"{source}: no decoder knows what it holds")
    return UnreadableImageError(f"{source}: {(str(error) or type(error).__name__).splitlines()[0]}")


def open_data(path: Path | None, split: str) -> ImageData:
    """The split `train` or `val` of a folder, or of the digits where `path` is None. Raises DataError.

    Classes are the sorted folders of `train/`, also for `val`, or those of `val/` where there is no `train/`.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split '{split}': one of {', '.join(SPLITS)}")
    return _digits(split) if path is None else _folder(path, split)


def _digits(split: str) -> ImageData:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits: scikit-learn is not installed: pip install 'deploybench[train]'") from error
    digits = load_digits()
    order_in_class = np.zeros(len(digits.target), dtype=np.int64)
    for label in range(len(digits.target_names)):
        members = np.flatnonzero(digits.target == label)
        order_in_class[members] = np.arange(len(members))
    held_out = order_in_class % HELD_OUT == 0
    chosen = held_out if split == "val" else ~held_out
    pixels = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)  # 17 grey levels
    classes = tuple(str(name) for name in digits.target_names)
    return ImageData(DIGITS, split, classes, digits.target[chosen].astype(np.int64), pixels, fills_frame=True)


def _folder(path: Path, split: str) -> ImageData:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}: give a folder with {LAYOUT}, or {DIGITS}")
    root = path / split
    own = _class_names(root)
    classes = _class_names(path / "train") if split == "val" and (path / "train").is_dir() else own
    if strange := sorted(set(own) - set(classes)):
        more = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
        raise DataError(
            f"{root}: class '{strange[0]}'{more} is not in {path / 'train'}: remove it, or add it to train"
        )
    samples = make_dataset(
        root, {name: classes.index(name) for name in own}, extensions=IMG_EXTENSIONS, allow_empty=True
    )
    labels = np.array([label for _, label in samples], dtype=np.int64)
    present = {classes[label] for label in set(labels.tolist())}
    if empty := sorted(set(own) - present):
        raise DataError(
            f"{root / empty[0]}: holds no image ({', '.join(IMG_EXTENSIONS)}): add some or remove it"
        )
    return ImageData(str(path), split, classes, labels, tuple(source for source, _ in samples))


def _class_names(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder: give a folder with {LAYOUT}")
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    if not names:
        raise DataError(f"{root}: holds no folder of a class: give a folder with {LAYOUT}")
    return names


@dataclass(slots=True)
class Unreadable:
    """The images of one split that could not be decoded, each counted once; above 1 % is an error."""

    data: ImageData
    found: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, reason: str) -> bool:
        """Whether `index` is new. Raises DataError that names the first few once they are more than 1 %."""
        if index in self.found:
            return False
        self.found[index] = reason
        if len(self.found) > UNREADABLE_SHARE * len(self.data):
            shown = "".join(f"\n  {text}" for text in list(self.found.values())[:SHOWN])
            raise DataError(
                f"{self.data.name}: {len(self.found)} of {len(self.data)} images of {self.data.split} cannot"
                f" be read, more than {UNREADABLE_SHARE:.0%}: repair or remove them:{shown}"
            )
        return True


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From an image to an input: resized to resolution / crop_pct, cropped in the middle, normalized."""

    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


def preprocessing(model: str, *, resolution: int, fills_frame: bool = False) -> Preprocessing:
    """What a model is evaluated with: timm's configuration, or for ours that of Next-ViT's official code.

    That code (classification/datasets.py) resizes to 256/224 of the resolution, bicubic, and normalizes by
    ImageNet's mean and standard deviation. A network of timm that is tested at another side than it was
    trained at has a crop of its own for that side. Data that fills its frame is not cropped.
    """
    from timm.data import resolve_data_config

    published = _published_config(model)
    at_test_side = tuple(published.get("test_input_size") or ())[1:] == (resolution, resolution)
    config: dict[str, Any] = resolve_data_config(pretrained_cfg=published, use_test_size=at_test_side)
    return Preprocessing(
        resolution=resolution,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=1.0 if fills_frame else config["crop_pct"],
        crop_mode=config["crop_mode"],
    )


def _published_config(model: str) -> dict[str, Any]:
    if not model.startswith("timm/"):
        return {"crop_pct": 224 / 256, "interpolation": "bicubic"}
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model.removeprefix("timm/"))
    return config.to_dict() if config is not None else {}


def eval_transform(steps: Preprocessing) -> Callable[[Image], Tensor]:
    """Resize, crop, normalize: (3, resolution, resolution) float32, always the same for the same image."""
    from timm.data import create_transform

    transform: Callable[[Image], Tensor] = create_transform(
        input_size=(3, steps.resolution, steps.resolution),
        is_training=False,
        interpolation=steps.interpolation,
        mean=steps.mean,
        std=steps.std,
        crop_pct=steps.crop_pct,
        crop_mode=steps.crop_mode,
    )
    return transform
