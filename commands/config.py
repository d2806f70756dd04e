"""bench.toml: suites, timing budgets and where things are kept, checked before anything else happens."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from commands import UsageError
from commands.config_problems import explained
from commands.match_table import MatchTable
from commands.targets import TARGET
from converters.byte_sizes import parse_bytes
from converters.pool import DEADLINE_SECONDS
from models.image_data import DIGITS
from models.spec import PRECISIONS
from models.tables import suggest
from reports.records import SUITE_NAME
from runners import affinity
from runners.measurement import Timing

SCHEMA = 1
SHAPE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,5})")

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class _Table(BaseModel):
    """A TOML table: unknown keys and loose types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _pin(value: str) -> str:
    affinity.parse(value)
    return value


class TimingTable(_Table):
    """`[timing]` and `[suites.NAME.timing]`: what is left out keeps the value of the level above."""

    min_rounds: Annotated[int, Field(ge=2, le=1000)] | None = None
    max_rounds: Annotated[int, Field(ge=2, le=1000)] | None = None
    round_seconds: Seconds | None = None
    min_samples: Positive | None = None
    warmup_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    max_warmup_seconds: Seconds | None = None
    min_sample_ms: Seconds | None = None
    target: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_seconds: Seconds | None = None
    deadline_seconds: Seconds | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    pin: Annotated[str, AfterValidator(_pin)] | None = None
    turn_seconds: Annotated[float, Field(ge=0, le=60)] | None = None

    def applied_to(self, base: Timing) -> Timing:
        return replace(base, **{name: value for name, value in self if value is not None})


def parse_shape(value: str) -> tuple[int, int]:
    """(side, channels) of a shape such as `14x14x384`. Raises UsageError for another form, or no square."""
    found = SHAPE.fullmatch(value)
    if not found:
        raise UsageError(f"'{value}' is not written like '14x14x384' (height x width x channels)")
    if found[1] != found[2]:
        raise UsageError(f"'{value}' is not square: height and width must be equal")
    return int(found[1]), int(found[3])


def _shape(value: object) -> object:
    try:
        parse_shape(str(value))
    except UsageError as error:
        raise ValueError(str(error)) from None
    return value


def _precision(value: object) -> object:
    if value not in PRECISIONS:
        raise ValueError(f"unknown precision {value!r}: {suggest(str(value), PRECISIONS)}")
    return value


def _target(value: object) -> object:
    if not TARGET.fullmatch(str(value)):
        raise ValueError("not a compute capability written like 'sm89'")
    return value


def _suite_name(value: object) -> object:
    if not SUITE_NAME.fullmatch(str(value)):
        raise ValueError("a suite's name has letters, digits, _ and - only: its report is named after it")
    return value


def _beside(value: str, info: ValidationInfo) -> str:
    """A path that is relative to the folder of bench.toml, which is the context, as an absolute one."""
    if not value:
        raise ValueError("a file is wanted")
    return str(Path(info.context or Path.cwd(), Path(value).expanduser()))


def _images(value: str, info: ValidationInfo) -> str:
    return value if value == DIGITS else _beside(value, info)


Shape = Annotated[str, BeforeValidator(_shape)]
SuiteName = Annotated[str, BeforeValidator(_suite_name)]
Target = Annotated[str, BeforeValidator(_target)]
Precision = Annotated[str, BeforeValidator(_precision)]
CheckpointPath = Annotated[str, AfterValidator(_beside)]
Images = Annotated[str, AfterValidator(_images)]
Option = bool | int | float | str


class Matrix(_Table):
    """`[[suites.NAME.matrix]]`: every combination of its lists is a case.

    Blocks need `shapes` (`14x14x384`), networks `resolutions`. Without `precisions`, every backend runs in
    its usual one. `build` are options of the toolchain that makes the files, `runtime` those of the runtime.
    With `parts`, every part of its networks is a case too, alone and at its own shape. `checkpoints` are
    files of weights by model; models without one have random weights. `calibrate` are the images of its int8
    cases: `digits` or a folder. Without `threads`, the suite's hold.
    """

    models: Annotated[list[str], Field(min_length=1)]
    shapes: list[Shape] = []
    resolutions: list[Positive] = []
    backends: Annotated[list[str], Field(min_length=1)] | None = None
    batch_sizes: Annotated[list[Positive], Field(min_length=1)] = [1]
    precisions: Annotated[list[Precision], Field(min_length=1)] | None = None
    fused: Annotated[list[bool], Field(min_length=1)] = [True]
    threads: Annotated[list[Positive], Field(min_length=1)] | None = None
    parts: bool = False
    options: dict[str, Option] = {}
    checkpoints: dict[str, CheckpointPath] = {}
    calibrate: Images | None = None
    build: dict[str, Option] = {}
    runtime: dict[str, Option] = {}

    @model_validator(mode="after")
    def _check_checkpoints(self) -> Self:
        for name in self.checkpoints:
            if name not in self.models:
                known = suggest(name, self.models)
                raise ValueError(f"checkpoints: '{name}' is not a model of this matrix: {known}")
        return self


class Suite(_Table):
    """`[suites.NAME]`. `focus` is the model that the report compares all others with.

    Without `devices`, every backend runs on its usual one; `compute_units` are Core ML's, for backends whose
    devices have an agent. With `profile`, a CPU runtime's profile by layer is taken once for every case. A
    suite has a `matrix`, its cases, or a table `match`, networks that are searched by latency.
    """

    description: str
    focus: str = ""
    backends: Annotated[list[str], Field(min_length=1)] = ["onnxruntime"]
    devices: Annotated[list[str], Field(min_length=1)] | None = None
    compute_units: Annotated[list[str], Field(min_length=1)] | None = None
    threads: Annotated[list[Positive], Field(min_length=1)] = [1]
    profile: bool = False
    matrix: Annotated[list[Matrix], Field(min_length=1)] = []
    match: MatchTable | None = None
    timing: TimingTable = TimingTable()

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        if self.match is None and not self.matrix:
            raise ValueError("has neither a matrix, its cases, nor a table 'match', networks of one latency")
        beside = self.model_fields_set - {"description", "match", "timing"}
        if self.match is not None and beside:
            raise ValueError(f"{' and '.join(sorted(beside))} beside a table 'match': it takes only timing")
        return self


class Paths(_Table):
    """`[paths]`, relative to the folder of bench.toml."""

    store: str = "results/bench.db"
    reports: str = "results"
    artifacts: str = "artifacts"


class TrtTable(_Table):
    """`[trt]`: the compute capabilities that engines are built for on a machine without a GPU."""

    targets: Annotated[list[Target], Field(min_length=1)] = ["sm89"]


class ConversionTable(_Table):
    """`[conversion]`: how long making one file may take before it is given up."""

    deadline_seconds: Seconds = DEADLINE_SECONDS


def _size(value: str) -> str:
    parse_bytes(value)
    return value


class CacheTable(_Table):
    """`[cache]`: how large the folder of artifacts may grow, such as `40 GB`; no limit without it.

    `max_batched` is what a run of networks by pattern keeps of the files that it made itself.
    """

    max_artifacts: Annotated[str, AfterValidator(_size)] | None = None
    max_batched: Annotated[str, AfterValidator(_size)] = "20 GB"


class Config(_Table):
    """The whole file."""

    schema_: Literal[1] = Field(alias="schema")
    paths: Paths = Paths()
    timing: TimingTable = TimingTable()
    trt: TrtTable = TrtTable()
    conversion: ConversionTable = ConversionTable()
    cache: CacheTable = CacheTable()
    suites: dict[SuiteName, Suite]

    def suite(self, name: str) -> Suite:
        """Raises UsageError with the nearest known names."""
        if name not in self.suites:
            raise UsageError(f"unknown suite '{name}': {suggest(name, self.suites)}")
        return self.suites[name]

    def timing_of(self, suite: Suite) -> Timing:
        return suite.timing.applied_to(self.timing.applied_to(Timing()))


def load(path: Path) -> Config:
    """The checked configuration. Raises UsageError naming the key, its value and what it takes."""
    try:
        with path.open("rb") as file:
            value = tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"no configuration at {path}: name one with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    _check_schema(path, value)
    try:
        return Config.model_validate(value, context=path.resolve().parent)
    except ValidationError as error:
        raise UsageError("\n".join(explained(path, error, root=Config))) from None


def _check_schema(path: Path, value: dict[str, Any]) -> None:
    schema = value.get("schema")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
        raise UsageError(f"{path}: schema {schema} is newer than this version reads ({SCHEMA}): update it")


TIMING_KEYS = tuple(field.name for field in fields(Timing))
