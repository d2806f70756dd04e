"""The values that say what is compared: a model to build and one cell of the comparison matrix.

Nothing here imports torch, so planning, listing and resuming stay fast.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.calibration import CalibrationImages

Option = int | float | str | bool
Options = tuple[tuple[str, Option], ...]  # sorted by name
ONNX_SUFFIX = ".onnx"
OF_A_FILE = "sha256:"  # weights that are read from a file begin so

# fp16 with weights that are stored in fewer bits: linear 8-bit, palettes, half of them zero.
WEIGHT_PRECISIONS = ("fp16-int8w", "fp16-pal8", "fp16-pal6", "fp16-pal4", "fp16-sparse50")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", *WEIGHT_PRECISIONS)

# The build option that leaves forms for deployment out: `without_form=five-axes+one-classifier`.
WITHOUT_FORM = "without_form"


def canonical_json(value: object) -> str:
    """The one JSON text of a plain value: sorted keys, no spaces, no NaN. Hashes are taken from it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """sha256 (hex) of a plain value's canonical JSON: equal values hash equal on every machine."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_deeper(value: object, levels: int) -> bool:
    """Are lists and tables of a plain value nested in more than so many levels?

    Files of others are refused by it: what one recursion can still read, another cannot write.
    """
    inside = [value]
    for _ in range(levels):
        inside = [item for each in inside for item in _items(each)]
    return any(isinstance(each, dict | list) for each in inside)


def _items(value: object) -> list[object]:
    """What a list or a table holds; nothing where a value is neither."""
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network or a block to build: `models.build(spec.name, **spec.build_options())`.

    `name` is a key of `models.MODELS`, `timm/NAME`, or the base name of an ONNX file, whose sha256 is then
    its `weights`, and its option `input_shape` what its input is where that is no square RGB image.
    `resolution` is the side of the square input: the image for a network, the feature map for a block.
    `options` are the builder's other keyword arguments, sorted by name. `weights` is `random:SEED` or
    `sha256:DIGEST` of a checkpoint file.
    """

    name: str
    resolution: int = 224
    options: Options = ()
    weights: str = "random:0"

    @staticmethod
    def of(name: str, *, resolution: int = 224, weights: str = "random:0", **options: Option) -> ModelSpec:
        return ModelSpec(name, resolution, sorted_options(options), weights)

    @property
    def is_block(self) -> bool:
        return self.name.startswith("block/")

    @property
    def is_file(self) -> bool:
        """An ONNX file of somebody's own, and no network that is built here."""
        return self.name.endswith(ONNX_SUFFIX)

    @property
    def weights_label(self) -> str:
        """The first digits of the sha256 of weights that are read from a file; of random ones nothing."""
        return self.weights.removeprefix(OF_A_FILE)[:8] if self.weights.startswith(OF_A_FILE) else ""

    def option(self, name: str, default: Option | None = None) -> Option | None:
        return dict(self.options).get(name, default)

    def build_options(self) -> dict[str, Option]:
        """Keyword arguments for the builder; a block is told its resolution, as its attention needs it."""
        options = dict(self.options)
        return {**options, "resolution": self.resolution} if self.is_block else options

    def input_shape(self, batch_size: int) -> tuple[int, ...]:
        """(B, C, H, W) of the single input; of a file (B, ...) as it declares."""
        shape = self.option("input_shape") if self.is_file else None
        if shape is not None:
            return (batch_size, *map(int, str(shape).split("x")))
        channels = self.option("in_channels", 3) if self.is_block else self.option("in_chans", 3)
        assert isinstance(channels, int)
        return (batch_size, channels, self.resolution, self.resolution)

    @property
    def shape_label(self) -> str:
        """`14x14x384` for a block, as the papers write a stage's feature map; `224` for a network.

        `3x384x640` for a file whose input is no square RGB image.
        """
        if self.is_block:
            return f"{self.resolution}x{self.resolution}x{self.option('in_channels')}"
        return str(self.option("input_shape", self.resolution) if self.is_file else self.resolution)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "options": dict(self.options)}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> ModelSpec:
        return ModelSpec.of(
            value["name"], resolution=value["resolution"], weights=value["weights"], **value["options"]
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix: what is deployed, how, and where. Equal cases hash equal, on every machine.

    `target` is the compute capability that an engine is built for (`sm89`), empty for files that are built
    for no device in particular. `build` are options of the toolchain that makes the file, `runtime` those of
    the runtime that is timed; both sorted by name and empty where the defaults hold. `calibration` are the
    images that an int8 file is calibrated on (models.calibration), empty for random inputs.
    """

    model: ModelSpec
    backend: str
    batch_size: int = 1
    precision: str = "fp32"
    fused: bool = True
    device: str = "cpu"
    threads: int = 1
    compute_unit: str = ""
    target: str = ""
    build: Options = ()
    runtime: Options = ()
    calibration: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a calibration that names no images."""
        if self.calibration:
            CalibrationImages.parse(self.calibration)

    @property
    def id(self) -> str:
        """First 16 hex digits of the sha256 of the canonical JSON."""
        return digest(self.to_dict())[:16]

    @property
    def label(self) -> str:
        """One line for people: `block/ncb 14x14x384 fp32 onnxruntime`, then what is not the default.

        Weights of a file are told by the first digits of its sha256.
        """
        parts = [self.model.name, self.model.shape_label, self.precision, self.backend]
        if told := self.model.weights_label:
            parts.insert(1, told)
        if self.batch_size != 1:
            parts.append(f"batch {self.batch_size}")
        if self.threads != 1:
            parts.append(f"{self.threads} threads")
        if self.device != "cpu":
            parts.append(self.device)
        if self.compute_unit:
            parts.append(self.compute_unit)
        if self.target:
            parts.append(self.target)
        parts += [f"{name}={value}" for name, value in (*self.build, *self.runtime)]
        if self.calibration:
            parts.append(f"calibrated {CalibrationImages.parse(self.calibration).label}")
        if not self.fused:
            parts.append("unfused")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value. What came later than the first stored runs is left out where it is empty.

        A case without it keeps the id that it always had.
        """
        value = {**asdict(self), "model": self.model.to_dict()}
        later: dict[str, Any] = {
            "target": self.target,
            "build": dict(self.build),
            "runtime": dict(self.runtime),
            "calibration": self.calibration,
        }
        for name, chosen in later.items():
            del value[name]
            if chosen:
                value[name] = chosen
        return value

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Case:
        options = {name: sorted_options(value.get(name, {})) for name in ("build", "runtime")}
        return Case(**{**value, "model": ModelSpec.from_dict(value["model"]), **options})


def sorted_options(options: Mapping[str, Option]) -> Options:
    """The hashable form of a table of options."""
    return tuple(sorted(options.items()))


def forms_left_out(build: Options) -> tuple[str, ...]:
    """The forms for deployment that build options leave out, by their names: `("five axes",)`."""
    value = dict(build).get(WITHOUT_FORM)
    return () if value is None else tuple(name.replace("-", " ") for name in str(value).split("+"))


def replaced_fact(form: str) -> str:
    """The name of the artifact's fact that counts the modules in a form: `five_axes_replaced`."""
    return f"{form.replace(' ', '_')}_replaced"
