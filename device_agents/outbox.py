"""Jobs that wait for a device: a folder per job, which an agent runs now, later, or on another machine.

OUTBOX/JOB_ID/job.json, model.zip, inputs.bin    what is sent
OUTBOX/JOB_ID/case.json, references.npz          whose result it is; stays on the host
OUTBOX/JOB_ID/journal.jsonl, outputs.bin         what came back
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.artifact import Artifact
from device_agents.forms import HEX16, FormError
from device_agents.host import write_whole
from device_agents.job import DeviceJob, DeviceTiming, InputFile, ModelFile, Tensor
from device_agents.mailbox import INPUTS, JOB, MODEL
from models.spec import Case

CASE, REFERENCES = "case.json", "references.npz"
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """The stored run that a job was made for: its number in that store, and its plan."""

    run_id: int
    plan_digest: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in an outbox, with the case that its result belongs to.

    `tolerance` is for the outputs against `references`, NaN where there are none. `modules` is the module
    path by the name of an operation's output, where the package tells it. `origin` is the suite's run that
    wants the result, None for a job without.
    """

    folder: Path
    job: DeviceJob
    case: Case
    artifact: Artifact | None = None
    tolerance: float = math.nan
    modules: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def files(self) -> dict[str, Path]:
        return {MODEL: self.folder / MODEL, INPUTS: self.folder / INPUTS}

    def references(self) -> list[Array] | None:
        """The eager model's outputs per input, where they are here."""
        path = self.folder / REFERENCES
        if not path.is_file() or math.isnan(self.tolerance):
            return None
        with np.load(path, allow_pickle=False) as file:
            return [file[f"reference_{index}"] for index in range(len(file.files))]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a job is made of: the model as the agent takes it, and per set one array per input."""

    model: bytes
    model_format: str
    input_names: tuple[str, ...]
    inputs: Sequence[Sequence[Array]]
    minimum_os: str = ""
    references: Sequence[Array] = ()
    tolerance: float = math.nan
    artifact: Artifact | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None


def put(
    outbox: Path,
    case: Case,
    sent: Sent,
    *,
    timing: DeviceTiming,
    warm_loads: int = 2,
    rounds_per_launch: int = 1,
    attempt: int = 0,
) -> Waiting:
    """Write a job; the same job again is the same folder, with whatever came back. Raises FormError."""
    tensors = tuple(
        Tensor(name, value.dtype.name, value.shape)
        for name, value in zip(sent.input_names, sent.inputs[0], strict=True)
    )
    data = b"".join(
        np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
        for values in sent.inputs
        for value in values
    )
    job = DeviceJob(
        case.id,
        ModelFile(MODEL, sent.model_format, _digest(sent.model), len(sent.model), sent.minimum_os),
        InputFile(INPUTS, _digest(data), len(data), len(sent.inputs), tensors),
        case.compute_unit,
        timing,
        warm_loads,
        rounds_per_launch,
        attempt=attempt,
    )
    DeviceJob.from_bytes(job.to_bytes())  # what the device would refuse is refused here
    folder = outbox / job.job_id
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MODEL, sent.model)
    write_whole(folder / INPUTS, data)
    if sent.references:
        named = {f"reference_{index}": value for index, value in enumerate(sent.references)}
        np.savez(folder / REFERENCES, allow_pickle=False, **named)
    artifact = sent.artifact.to_dict() if sent.artifact else None
    told = {
        "case": case.to_dict(),
        "artifact": artifact,
        "tolerance": str(sent.tolerance),
        "modules": dict(sent.modules),
        "origin": asdict(sent.origin) if sent.origin else None,
    }
    write_whole(folder / CASE, json.dumps(told).encode())
    write_whole(folder / JOB, job.to_bytes())
    return Waiting(folder, job, case, sent.artifact, sent.tolerance, sent.modules, sent.origin)


def waiting(outbox: Path) -> list[Waiting]:
    """Every job of an outbox, in the order of their names. Raises FormError for one that was changed."""
    folders = sorted(path for path in outbox.iterdir() if HEX16.fullmatch(path.name) and path.is_dir())
    return [_read(folder) for folder in folders]


def _read(folder: Path) -> Waiting:
    try:
        job = DeviceJob.from_bytes((folder / JOB).read_bytes())
        told = json.loads((folder / CASE).read_bytes())
        case = Case.from_dict(told["case"])
        artifact = Artifact.from_dict(told["artifact"]) if told["artifact"] else None
        tolerance = float(told["tolerance"])
        modules = {str(name): str(module) for name, module in told.get("modules", {}).items()}
        origin = _origin(told.get("origin"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormError(f"{folder}: no job of this program ({error}); delete it") from None
    if job.job_id != folder.name or job.case_id != case.id:
        raise FormError(f"{folder}: the job is not the folder's, or not that of its case; delete it")
    return Waiting(folder, job, case, artifact, tolerance, modules, origin)


def _origin(told: object) -> Origin | None:
    """Raises TypeError and KeyError for what `put` cannot have written."""
    if told is None:
        return None
    if not isinstance(told, dict) or type(told["run_id"]) is not int:
        raise TypeError("origin is no run")
    return Origin(told["run_id"], str(told["plan_digest"]))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
