"""What the measuring stage hands on: raw samples as integer nanoseconds, and how they were taken.

No runtime is imported here, and no statistic is computed: reports recompute them from the samples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.spec import digest

Samples = npt.NDArray[np.int64]
OCCASIONAL_PARTS = ("host", "enqueue")  # not taken with every sample
# Among a round's `layers`: what an inference takes beyond them, and behind the operator of one that has no
# name of its own and lies inside the module that the layers before and after it share.
BETWEEN_LAYERS = "between the layers"
BY_NEIGHBOURS = " (by neighbours)"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to measure: one suite's timing policy (rules 1 to 5 of docs/measurement.md).

    `target` is the wanted half width of the median's 95 % confidence interval, relative to the median; `pin`
    is `off` or a list of cores, of which a measuring process takes as many as its case has threads. With
    `turn_seconds` above 0 the processes of a comparison are alive at once, on a CPU, and their rounds are cut
    into windows of that length, in which they take turns.
    """

    min_rounds: int = 12
    max_rounds: int = 20
    round_seconds: float = 0.6
    min_samples: int = 5
    warmup_seconds: float = 0.2
    max_warmup_seconds: float = 3.0
    min_sample_ms: float = 1.0
    target: float = 0.01
    max_seconds: float = 600.0
    deadline_seconds: float = 120.0
    seed: int = 0
    pin: str = "off"
    turn_seconds: float = 0.0


@dataclass(frozen=True)  # without slots, so that its id is computed once
class Protocol:
    """Everything that changes what a latency means. Results of different protocols are not compared.

    `timed` says what is inside a sample; `clock` is `host` or a device clock's name; `inputs` how inputs were
    made and rotated; `runtime` the package, version and options as the runtime itself reports them.
    """

    backend: str
    runtime: str
    device: str
    threads: int
    clock: str
    sync: str
    timed: str
    inputs: str
    warmup: str
    min_sample_ns: int
    queue_depth: int = 1
    cuda_graph: bool = False
    transfers: str = "none"
    compute_unit: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        return digest(asdict(self))[:12]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Protocol:
        return Protocol(**value)


@dataclass(frozen=True, slots=True)
class Job:
    """What a measuring process is told: load this file on that runtime and take one round of samples."""

    case_id: str
    backend: str
    device: str
    threads: int
    compute_unit: str
    precision: str
    artifact: Path
    artifact_sha256: str
    tensors: Path
    tolerance: float
    timing: Timing
    round_index: int
    position: int
    tensors_sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "artifact": str(self.artifact), "tensors": str(self.tensors)}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Job:
        return Job(
            **{
                **value,
                "artifact": Path(value["artifact"]),
                "tensors": Path(value["tensors"]),
                "timing": Timing(**value["timing"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Phases:
    """Where one process's wall time went, in nanoseconds; the parent fills in `process_ns` (whole life)."""

    start_ns: int = 0  # exec to the first line of the child
    import_ns: int = 0  # the runtime's import
    load_ns: int = 0  # file to ready session
    verify_ns: int = 0  # output checks, outside the timed region
    warmup_ns: int = 0
    timed_ns: int = 0
    process_ns: int = 0


@dataclass(frozen=True, slots=True)
class Top1:
    """Positions of a runtime's outputs whose largest channel is the reference's: `agreeing` of `positions`.

    Of a network that classifies, positions are images; of a feature map they are its pixels. Raises
    ValueError where it cannot be so.
    """

    agreeing: int
    positions: int

    def __post_init__(self) -> None:
        if not 0 <= self.agreeing <= self.positions or self.positions < 1:
            raise ValueError(f"top-1 of {self.agreeing} in {self.positions} positions cannot be")

    @property
    def share(self) -> float:
        return self.agreeing / self.positions


DISTURBANCES = frozenset({"disturbed", "throttled"})


def is_disturbed(flags: Collection[str]) -> bool:
    """Do a round's flags say that it is to be taken again, and that another attempt counts before it?"""
    return not DISTURBANCES.isdisjoint(flags)


@dataclass(frozen=True, slots=True)
class Round:
    """The raw samples of one fresh process.

    Each entry of `samples_ns` and `warmup_ns` is the elapsed time of `loop_count` inferences, in order;
    `position` is the place of this process in its round's order. `environment` holds readings `before` and
    `after`; `output_error` the largest relative difference of the runtime's outputs from the reference.
    `parts` are other spans of as many inferences as a sample has. `h2d` and `d2h` on a GPU have one value per
    sample; `enqueue` (host time until the work is handed over) and `host` (until it is finished) are taken
    apart, beside some of the samples, and have at least one value. `layers` is the runtime's own profile,
    taken after the timed part: nanoseconds of one inference by layer name, in execution order. `top1` is how
    often the checked outputs agree with the reference; None where nothing was compared, or has no channels.
    """

    round_index: int
    position: int
    attempt: int
    protocol: Protocol
    loop_count: int
    samples_ns: Samples
    warmup_ns: Samples
    steady: bool
    output_error: float
    phases: Phases
    started_at_ns: int  # UTC, since 1970
    environment: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    peak_rss_bytes: int = 0
    peak_device_bytes: int = 0
    parts: Mapping[str, Samples] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    top1: Top1 | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the sample arrays, which travel and are stored as bytes.

        `top1` came later than the first stored rounds: one without it has the text that it always had.
        """
        value = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in ("samples_ns", "warmup_ns", "parts", "protocol", "phases", "top1")
        }
        if self.top1 is not None:
            value["top1"] = asdict(self.top1)
        return {**value, "protocol": self.protocol.to_dict(), "phases": asdict(self.phases)}

    @staticmethod
    def from_dict(
        value: Mapping[str, Any],
        samples_ns: Samples,
        warmup_ns: Samples,
        parts: Mapping[str, Samples] | None = None,
    ) -> Round:
        return Round(
            **{
                **value,
                "protocol": Protocol.from_dict(value["protocol"]),
                "phases": Phases(**value["phases"]),
                "flags": tuple(value["flags"]),
                "top1": Top1(**value["top1"]) if value.get("top1") is not None else None,
                "samples_ns": samples_ns,
                "warmup_ns": warmup_ns,
                "parts": dict(parts or {}),
            }
        )


def misfit(samples: int, parts: Mapping[str, Samples]) -> str:
    """Which part has a number of values that so many samples cannot have (see Round); empty if none."""
    for name, values in parts.items():
        least = min(1, samples) if name in OCCASIONAL_PARTS else samples
        if not least <= len(values) <= samples:
            return f"part {name} has {len(values)} values for {samples} samples"
    return ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a case has no number: typed, with one sentence of advice.

    `kind` is one of `conversion`, `unavailable` (the runtime or device is not here), `load`, `infer`,
    `wrong_output`, `crashed` (with `signal`), `killed`, `out_of_memory`, `deadline`, `bad_artifact`,
    `precision_mismatch`. `built` is true where the artifact exists and only the timing could not be done.
    """

    kind: str
    message: str
    advice: str = ""
    signal: int = 0
    round_index: int = -1
    built: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Failure:
        return Failure(**value)


@dataclass(frozen=True, slots=True)
class Measurement:
    """All rounds of one case under one protocol, ordered by round."""

    protocol: Protocol
    rounds: tuple[Round, ...]

    @property
    def per_inference_ns(self) -> list[npt.NDArray[np.float64]]:
        """One array per round: nanoseconds per inference."""
        return [r.samples_ns / r.loop_count for r in self.rounds]
