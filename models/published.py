"""Figures that others published: accuracy and latency on their devices, with source and setting.

The table is published.csv beside this file. Nothing in it was measured by this project, and nothing in it is
an estimate of ours: what is blank was not found. Rows whose note begins with DIGITISED were read off a plot
and tell their error there. `gmacs` are what the papers call FLOPs. No pandas here: a report reads the table
in milliseconds.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("published.csv")
TASKS = ("cls", "det", "seg")  # classification, detection, segmentation

# What papers call the models that timm, or this project, has under another name. A model is looked up by its
# own name too: timm's tables are in here as they are.
PAPER_NAMES: Mapping[str, tuple[str, ...]] = {
    "nextvit_small": ("Next-ViT-S",),
    "nextvit_base": ("Next-ViT-B",),
    "nextvit_large": ("Next-ViT-L",),
    "mobilevig_ti": ("MobileViG-Ti",),
    "mobilevig_s": ("MobileViG-S",),
    "mobilevig_m": ("MobileViG-M",),
    "mobilevig_b": ("MobileViG-B",),
    "efficientmod_xxs": ("EfficientMod-xxs",),
    "efficientmod_xs": ("EfficientMod-xs",),
    "efficientmod_s": ("EfficientMod-s",),
    "efficientmod_s_conv": ("EfficientMod-s-Conv",),
    "fcaformer_l1": ("FcaFormer-L1",),
    "fcaformer_l2": ("FcaFormer-L2",),
    "fcaformer_l3": ("FcaFormer-L3",),
    "fcaformer_l4": ("FcaFormer-L4",),
    "cswin_tiny": ("CSWin-T",),
    "cswin_small": ("CSWin-S",),
    "cswin_base": ("CSWin-B",),
    "pvt_tiny": ("PVT-Tiny",),
    "pvt_small": ("PVT-Small",),
    "pvt_medium": ("PVT-Medium",),
    "pvt_large": ("PVT-Large",),
    "vcmamba_s": ("VCMamba-S",),
    "vcmamba_m": ("VCMamba-M",),
    "vcmamba_b": ("VCMamba-B",),
    "plainmamba_l1": ("PlainMamba-L1",),
    "plainmamba_l2": ("PlainMamba-L2",),
    "plainmamba_l3": ("PlainMamba-L3",),
    "mobile_former_508m": ("Mobile-Former-508M",),
    "mobile_former_294m": ("Mobile-Former-294M",),
    "mobile_former_96m": ("Mobile-Former-96M",),
    "pyramid_vig_ti": ("Pyramid ViG-Ti",),
    "pyramid_vig_s": ("Pyramid ViG-S",),
    "pyramid_vig_m": ("Pyramid ViG-M",),
    "pyramid_vig_b": ("Pyramid ViG-B",),
    "resnet18": ("ResNet-18",),
    "resnet50": ("ResNet-50",),
    "resnet101": ("ResNet-101",),
    "resnet152": ("ResNet-152",),
    "resnext101_32x4d": ("ResNeXt-101-32x4d",),
    "resnext101_64x4d": ("ResNeXt-101-64x4d",),
    "convnext_tiny": ("ConvNeXt-T",),
    "convnext_small": ("ConvNeXt-S",),
    "convnext_base": ("ConvNeXt-B",),
    "convnext_large": ("ConvNeXt-L",),
    "swin_tiny_patch4_window7_224": ("Swin-T",),
    "swin_small_patch4_window7_224": ("Swin-S",),
    "swin_base_patch4_window7_224": ("Swin-B",),
    "twins_pcpvt_small": ("Twins-PCPVT-S",),
    "twins_pcpvt_base": ("Twins-PCPVT-B",),
    "twins_pcpvt_large": ("Twins-PCPVT-L",),
    "twins_svt_small": ("Twins-SVT-S",),
    "twins_svt_base": ("Twins-SVT-B",),
    "twins_svt_large": ("Twins-SVT-L",),
    "pvt_v2_b0": ("PVTv2-B0",),
    "pvt_v2_b1": ("PVTv2-B1",),
    "pvt_v2_b2": ("PVTv2-B2",),
    "pvt_v2_b2_li": ("PVTv2-B2-Linear", "PVTv2-B2-li"),
    "pvt_v2_b3": ("PVTv2-B3",),
    "pvt_v2_b4": ("PVTv2-B4",),
    "pvt_v2_b5": ("PVTv2-B5",),
    "poolformer_s12": ("PoolFormer-S12",),
    "poolformer_s24": ("PoolFormer-S24",),
    "poolformer_s36": ("PoolFormer-S36",),
    "poolformer_m36": ("PoolFormer-M36",),
    "poolformer_m48": ("PoolFormer-M48",),
    "efficientformer_l1": ("EfficientFormer-L1", "EfficientFormerV1-L1"),
    "efficientformer_l3": ("EfficientFormer-L3",),
    "efficientformer_l7": ("EfficientFormer-L7",),
    "efficientformerv2_s0": ("EfficientFormerV2-S0",),
    "efficientformerv2_s1": ("EfficientFormerV2-S1",),
    "efficientformerv2_s2": ("EfficientFormerV2-S2",),
    "efficientformerv2_l": ("EfficientFormerV2-L",),
    "mobilenetv2_100": ("MobileNetV2 x1.0",),
    "mobilenetv2_140": ("MobileNetV2 x1.4",),
    "mobilevit_xxs": ("MobileViT-XXS", "MobileViT-xxs", "MobileViTv1-xxs"),
    "mobilevit_xs": ("MobileViT-XS", "MobileViT-xs"),
    "mobilevit_s": ("MobileViT-S", "MobileViT-s", "MobileViTv1-s"),
    "mobilevitv2_050": ("MobileViTv2-0.5", "MobileViTv2-050"),
    "mobilevitv2_075": ("MobileViTv2-0.75", "MobileViTv2-075"),
    "mobilevitv2_100": ("MobileViTv2-1.0", "MobileViTv2-100"),
    "mobilevitv2_125": ("MobileViTv2-1.25",),
    "mobilevitv2_150": ("MobileViTv2-1.5",),
    "mobilevitv2_175": ("MobileViTv2-1.75",),
    "mobilevitv2_200": ("MobileViTv2-2.0",),
}


_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,3})?", re.ASCII)


class PublishedError(ValueError):
    """A row that cannot be true: names the file, the line, the column and the value."""


@dataclass(frozen=True, slots=True)
class PublishedLatency:
    """`setup` says device, software, precision and batch, as far as the source does."""

    ms: float
    setup: str


@dataclass(frozen=True, slots=True)
class Published:
    """One row. `resolution` is the side of the input where the source gives one number; `input` its words.

    `acc_top1` is ImageNet accuracy in percent; `metrics` are other figures by name.
    """

    line: int
    model: str
    family: str
    task: str
    setting: str
    input: str
    resolution: int | None
    params_m: float | None
    gmacs: float | None
    acc_top1: float | None
    metrics: tuple[tuple[str, float], ...]
    tensorrt: PublishedLatency | None
    coreml: PublishedLatency | None
    source: str
    notes: str

    @property
    def digitised(self) -> bool:
        """Read off a plot, with the error that `notes` tells."""
        return self.notes.startswith("DIGITISED")


COLUMNS = (
    *("model", "family", "task", "setting", "resolution", "params_m", "gmacs", "acc_top1", "metric_name"),
    *("metric_value", "tensorrt_ms", "tensorrt_setup", "coreml_ms", "coreml_setup", "source", "notes"),
)


@cache
def table() -> tuple[Published, ...]:
    """Every row of published.csv, in order. Raises PublishedError."""
    return read(TABLE)


def read(path: Path) -> tuple[Published, ...]:
    """Every row of a table like published.csv. Raises PublishedError naming line, column and value."""
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    try:
        head = next(reader, [])
        if tuple(head) != COLUMNS:
            raise PublishedError(f"{path}: line 1: columns are {','.join(head)}, not {','.join(COLUMNS)}")
        return tuple(_Row(path, reader.line_num, values).read() for values in reader)
    except csv.Error as error:
        raise PublishedError(f"{path}: line {reader.line_num}: {error}") from None


def rows_of(model: str) -> tuple[Published, ...]:
    """The rows of a model by our name (`nextvit_small`, `timm/resnet50`, `timm/resnet50.a1_in1k`).

    A name with timm's tag after the dot means those weights alone in timm's tables, and all papers' rows.
    """
    name = model.removeprefix("timm/")
    architecture = name.partition(".")[0]
    names = {name, architecture, *PAPER_NAMES.get(architecture, ())}
    untagged = name == architecture
    return tuple(
        row
        for row in table()
        if row.model in names or (untagged and row.model.startswith(f"{architecture}."))
    )


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PublishedError(f"{path}: line {line}: byte 0x{data[error.start]:02x} is not UTF-8") from None


class _Row:
    """Reads the cells of one line; every complaint names the place."""

    def __init__(self, path: Path, line: int, values: Sequence[str]) -> None:
        self._where = f"{path}: line {line}"
        if len(values) != len(COLUMNS):
            raise PublishedError(f"{self._where}: {len(values)} values for {len(COLUMNS)} columns")
        self._line = line
        self._cells = dict(zip(COLUMNS, values, strict=True))

    def read(self) -> Published:
        task = self._text("task")
        if task not in TASKS:
            raise self._wrong("task", f"none of {', '.join(TASKS)}")
        return Published(
            line=self._line,
            model=self._text("model"),
            family=self._text("family"),
            task=task,
            setting=self._text("setting"),
            input=self._cells["resolution"],
            resolution=self._side(),
            params_m=self._number("params_m"),
            gmacs=self._number("gmacs"),
            acc_top1=self._number("acc_top1", most=100),
            metrics=self._metrics(),
            tensorrt=self._latency("tensorrt"),
            coreml=self._latency("coreml"),
            source=self._text("source"),
            notes=self._cells["notes"],
        )

    def _text(self, column: str) -> str:
        value = self._cells[column]
        if not value.strip():
            raise self._wrong(column, "must not be empty")
        return value

    def _side(self) -> int | None:
        """None where the source describes its input in words, or not at all."""
        text = self._cells["resolution"]
        if not (text.isascii() and text.isdigit()):
            return None
        if len(text) > 5 or int(text) < 1:
            raise self._wrong("resolution", "a side has 1 to 99999 pixels")
        return int(text)

    def _number(self, column: str, *, most: float = math.inf) -> float | None:
        text = self._cells[column]
        return self._positive(column, text, most) if text else None

    def _positive(self, column: str, text: str, most: float = math.inf) -> float:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not 0 < value <= most or value == math.inf:
            raise self._wrong(column, f"'{text}' is not a number above 0{f' up to {most:g}' * (most < 1e9)}")
        return value

    def _latency(self, runtime: str) -> PublishedLatency | None:
        ms, setup = self._number(f"{runtime}_ms"), self._cells[f"{runtime}_setup"]
        if (ms is None) != (not setup):
            raise self._wrong(f"{runtime}_setup", "a latency and its setup stand together or not at all")
        return PublishedLatency(ms, setup) if ms is not None else None

    def _metrics(self) -> tuple[tuple[str, float], ...]:
        names, values = (
            [part.strip() for part in self._cells[column].split(";")] if self._cells[column] else []
            for column in ("metric_name", "metric_value")
        )
        if len(names) != len(values):
            raise self._wrong("metric_value", f"{len(values)} values for {len(names)} names")
        return tuple(
            (name, self._positive("metric_value", value)) for name, value in zip(names, values, strict=True)
        )

    def _wrong(self, column: str, why: str) -> PublishedError:
        return PublishedError(f"{self._where}: {column} = '{self._cells[column]}': {why}")
