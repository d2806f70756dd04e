"""What a device is told: load this model on that compute unit and take so many rounds.

`job.json`, schema 1. Times are whole nanoseconds; there are no fractions in it. Agent and host may be of
different versions and languages: a key that one of them does not know is an error, never skipped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agents.forms import FILE_NAME, HEX16, SHA256, Form, FormError, canonical, parsed, whole
from runners.measurement import Timing

FORMAT = "deploybench device job"
SCHEMA = 1
MAX_JOB_BYTES = 1 << 20
MAX_MODEL_BYTES = 2 << 30
MAX_INPUT_BYTES = 1 << 30
MAX_SAMPLES = 1 << 20
MAX_ROUNDS = 1000
COMPUTE_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
MODEL_FORMATS = ("mlpackage-zip", "onnx")
ITEM_BYTES = {"float16": 2, "float32": 4, "int32": 4}
_VERSION = re.compile(r"(\d{1,3}(\.\d{1,3}){0,2})?")
_HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: `dtype` is NumPy's name, `shape` has no open dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        size = ITEM_BYTES[self.dtype]
        for side in self.shape:
            size *= side
        return size

    @staticmethod
    def of(form: Form) -> Tensor:
        name = form.text("name", most=256)
        dtype = form.one_of("dtype", tuple(ITEM_BYTES))
        return Tensor(name, dtype, form.integers("shape", most=8, least=1, highest=1 << 24))


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`minimum_os` is the oldest system version that reads it (`16.0`), empty where any does."""

    file: str
    format: str
    sha256: str
    size_bytes: int
    minimum_os: str = ""

    @staticmethod
    def of(form: Form) -> ModelFile:
        return ModelFile(
            form.text("file", FILE_NAME),
            form.one_of("format", MODEL_FORMATS),
            form.text("sha256", SHA256),
            form.integer("size_bytes", 1, MAX_MODEL_BYTES),
            form.text("minimum_os", _VERSION),
        )


@dataclass(frozen=True, slots=True)
class InputFile:
    """`sets` inputs one behind the other, each all `tensors` in order, little-endian, without gaps."""

    file: str
    sha256: str
    size_bytes: int
    sets: int
    tensors: tuple[Tensor, ...]

    @staticmethod
    def of(form: Form) -> InputFile:
        made = InputFile(
            form.text("file", FILE_NAME),
            form.text("sha256", SHA256),
            form.integer("size_bytes", 1, MAX_INPUT_BYTES),
            form.integer("sets", 1, 64),
            form.forms("tensors", Tensor.of, most=16),
        )
        if made.size_bytes != made.sets * sum(tensor.size_bytes for tensor in made.tensors):
            raise FormError(f"inputs: {made.size_bytes} bytes are not {made.sets} sets of the tensors listed")
        return made


@dataclass(frozen=True, slots=True)
class DeviceTiming:
    """How long to measure, in nanoseconds of the device's clock; the rules are those of runners.timing."""

    rounds: int = 5
    warmup_ns: int = 200_000_000
    max_warmup_ns: int = 3_000_000_000
    round_ns: int = 600_000_000
    min_sample_ns: int = 1_000_000
    min_samples: int = 5

    def as_timing(self) -> Timing:
        """For runners.timing, whose unit is the second."""
        return Timing(
            round_seconds=self.round_ns / 1e9,
            min_samples=self.min_samples,
            warmup_seconds=self.warmup_ns / 1e9,
            max_warmup_seconds=self.max_warmup_ns / 1e9,
            min_sample_ms=self.min_sample_ns / 1e6,
        )

    @staticmethod
    def of(form: Form) -> DeviceTiming:
        return DeviceTiming(
            form.integer("rounds", 1, MAX_ROUNDS),
            form.integer("warmup_ns", 0, _HOUR_NS),
            form.integer("max_warmup_ns", 1, _HOUR_NS),
            form.integer("round_ns", 1, _HOUR_NS),
            form.integer("min_sample_ns", 1, _HOUR_NS),
            form.integer("min_samples", 1, MAX_SAMPLES),
        )


@dataclass(frozen=True, slots=True)
class DeviceJob:
    """One case on one compute unit.

    `rounds_per_launch` = 1 is the rule that a round is a fresh process; more of them load the model again for
    every round, in one process. A step that the app died in `max_interruptions` times is not tried again.
    `attempt` makes the same case another job, with a mailbox of its own.
    """

    case_id: str
    model: ModelFile
    inputs: InputFile
    compute_unit: str = "all"
    timing: DeviceTiming = field(default_factory=DeviceTiming)
    warm_loads: int = 2
    rounds_per_launch: int = 1
    max_interruptions: int = 2
    outputs: bool = True
    placement: bool = True
    attempt: int = 0

    @property
    def job_id(self) -> str:
        """First 16 hex digits of the sha256 of everything else: the same job is the same mailbox."""
        return hashlib.sha256(canonical(self._content())).hexdigest()[:16]

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = plain(asdict(self))
        return content

    def to_bytes(self) -> bytes:
        return canonical({"format": FORMAT, "schema": SCHEMA, "job_id": self.job_id, **self._content()})

    @staticmethod
    def from_bytes(text: bytes) -> DeviceJob:
        """Raises FormError for anything that `to_bytes` of this version cannot have written."""
        return whole(parsed(text, "job", max_bytes=MAX_JOB_BYTES), "job", _job)


def _job(form: Form) -> DeviceJob:
    form.one_of("format", (FORMAT,))
    schema = form.integer("schema", 1)
    if schema != SCHEMA:
        raise FormError(f"job has schema {schema}, this version reads {SCHEMA}: update the older side")
    given = form.text("job_id", HEX16)
    job = DeviceJob(
        form.text("case_id", HEX16),
        form.form("model", ModelFile.of),
        form.form("inputs", InputFile.of),
        form.one_of("compute_unit", COMPUTE_UNITS),
        form.form("timing", DeviceTiming.of),
        form.integer("warm_loads", 0, 100),
        form.integer("rounds_per_launch", 1, MAX_ROUNDS),
        form.integer("max_interruptions", 1, 10),
        form.boolean("outputs"),
        form.boolean("placement"),
        form.integer("attempt", 0, 1_000_000),
    )
    if given != job.job_id:
        raise FormError(f"job_id {given} is not that of the job's content ({job.job_id})")
    return job


def plain(value: Any) -> Any:
    """Tuples as lists, so that the digest of a job is that of its JSON."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_sets(data: bytes, tensors: tuple[Tensor, ...], sets: int) -> list[list[npt.NDArray[Any]]]:
    """The arrays of an input or output file, per set. Raises FormError for another length."""
    if len(data) != sets * sum(tensor.size_bytes for tensor in tensors):
        raise FormError(f"{len(data)} bytes are not {sets} sets of the tensors listed")
    found, place = [], 0
    for _ in range(sets):
        arrays = []
        for tensor in tensors:
            kind = np.dtype(tensor.dtype).newbyteorder("<")
            part = data[place : place + tensor.size_bytes]
            arrays.append(np.frombuffer(part, kind).reshape(tensor.shape).astype(tensor.dtype))
            place += tensor.size_bytes
        found.append(arrays)
    return found
