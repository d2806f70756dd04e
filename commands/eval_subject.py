"""What an evaluation runs: a file that somebody made, what is known of it, and with what it is run here."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError, options
from commands.model_options import model_spec
from models.spec import ModelSpec, Option

if TYPE_CHECKING:
    from converters.artifact import Artifact
    from converters.read_back import FileFacts

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
MAX_RECORD_BYTES = 2**24
LAYOUT = "images as (batch, 3, side, side)"

# By kind of file, what can run it here; the usual one first. ONNX Runtime leaves the rounding of 16-bit types
# out on a CPU, so those are run with it unless asked for otherwise.
BACKENDS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "openvino", "rounding"),
    "exported_program": ("torch",),
    "engine": ("trt",),
    "mlpackage": ("interpreter",),
    "checkpoint": ("eager",),
}
ROUNDED = ("fp16", "bf16")
USUAL_BATCH = 32  # where the file leaves it open
INPUTS = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class Subject:
    """A file ready to be evaluated.

    `shape` is its input's, with the batch to run it by; `classes` how many outputs it has, None where only
    running it tells; `spec` the model where somebody said which, and `checkpoint` its weights' file, where
    they are not random. `from_record`: what is known of it comes from the record of its conversion;
    `builder` is the package that an engine was built with, `calibration` the record's facts of an int8 file.
    """

    path: Path
    kind: str
    sha256: str
    precision: str
    backend: str
    shape: tuple[int, int, int, int]
    classes: int | None
    spec: ModelSpec | None
    checkpoint: Path | None
    key: str = ""
    flavour: str = ""
    input_dtype: str = "float32"
    takes_pixels: bool = False
    from_record: bool = False
    builder: str = ""
    calibration: Mapping[str, Option] = field(default_factory=dict)

    @property
    def has_eager_form(self) -> bool:
        """Its own weights are here: read from the checkpoint, or random ones that the record names."""
        if self.kind == "checkpoint" or self.spec is None:
            return False
        random = self.from_record and self.spec.weights.startswith("random:")
        return random or self.checkpoint is not None


def subject_of(args: argparse.Namespace) -> Subject:
    """What the command line names. Raises UsageError for a file or a model that cannot be what is asked."""
    path: Path = args.artifact
    if not path.exists():
        raise UsageError(f"no file at {path}")
    name = path.name.lower()
    if path.is_file() and name.endswith(CHECKPOINTS):
        return _of_checkpoint(args, path)
    return _of_artifact(args, path)


def _of_checkpoint(args: argparse.Namespace, path: Path) -> Subject:
    if args.model is None:
        raise UsageError(f"{path} holds weights alone: say with --model which network they are of")
    if args.checkpoint is not None:
        raise UsageError("--checkpoint: the file that is evaluated is a checkpoint itself")
    chosen = options.option_values(args.option, "--option")
    spec = model_spec(args.model, resolution=args.resolution, chosen=chosen, checkpoint=path)
    _require_network(spec)
    _backend(args, "checkpoint", "fp32")
    return checkpoint_subject(path, spec, batch_size=_batch(args, -1, path))


def checkpoint_subject(path: Path, spec: ModelSpec, *, batch_size: int = USUAL_BATCH) -> Subject:
    """The weights in `path` of a network that classifies images; `spec.weights` has their sha256."""
    shape = (batch_size, 3, spec.resolution, spec.resolution)
    sha256 = spec.weights.removeprefix("sha256:")
    (backend,) = BACKENDS["checkpoint"]
    return Subject(
        path, "checkpoint", sha256, "fp32", backend, shape, None, spec, path,
    )  # fmt: skip


def _of_artifact(args: argparse.Namespace, path: Path) -> Subject:
    from converters.read_back import KINDS, ReadBackError, read_back

    if not path.name.lower().endswith(tuple(KINDS)):
        known = ", ".join((*KINDS, *CHECKPOINTS))
        raise UsageError(f"{path}: unknown extension; known are {known}")
    try:
        facts = read_back(path, trusted=args.trust)
    except ReadBackError as error:
        raise UsageError(str(error)) from None
    record = _record(path, facts)
    precision = record.precision if record else facts.precision or "fp32"
    tensor = facts.inputs[0] if facts.inputs else record.inputs[0] if record else None
    takes_pixels = facts.facts.get("input_kind") == "image"
    if tensor and not takes_pixels and tensor.dtype not in INPUTS:
        raise UsageError(f"{path} takes {tensor.dtype} values; expected are {' or '.join(INPUTS)}")
    shape = _shape(args, path, facts, tensor.shape if tensor else ())
    spec = _spec(args, path, record, shape)
    return Subject(
        path, facts.kind, record.sha256 if record else _identity(path, facts), precision,
        _backend(args, facts.kind, precision), shape, _classes(facts, record), spec, args.checkpoint,
        record.key if record else "", record.flavour if record else "",
        tensor.dtype if tensor else "float32", takes_pixels, record is not None,
        str(facts.facts.get("builder", "")), _calibration(record),
    )  # fmt: skip


def _calibration(record: Artifact | None) -> dict[str, Option]:
    from converters.artifact import CALIBRATION_FACTS

    facts = record.facts if record else {}
    return {name: facts[name] for name in CALIBRATION_FACTS if name in facts}


def _spec(
    args: argparse.Namespace, path: Path, record: Artifact | None, shape: tuple[int, int, int, int]
) -> ModelSpec | None:
    """The record's model, or what the command line says of a file without one."""
    if record is None:
        if args.model is None:
            if args.checkpoint or args.option:
                raise UsageError("--checkpoint, --option: of which model? Name it with --model")
            return None
        chosen = options.option_values(args.option, "--option")
        spec = model_spec(args.model, resolution=str(shape[2]), chosen=chosen, checkpoint=args.checkpoint)
        _require_network(spec)
        return spec
    _require_network(record.model)
    if args.model is not None and args.model != record.model.name:
        raise UsageError(
            f"--model {args.model}: {path} was converted from {record.model.name}, says the record beside it"
        )
    if args.option:
        raise UsageError(f"--option: the record beside {path} holds the options of its model")
    if args.checkpoint is not None:
        _require_weights(args.checkpoint, record.model)
    return record.model


def _require_weights(checkpoint: Path, spec: ModelSpec) -> None:
    from converters.files import sha256_of

    try:
        found = f"sha256:{sha256_of(checkpoint)}"
    except OSError as error:
        raise UsageError(f"--checkpoint {checkpoint}: cannot be read: {error.strerror}") from None
    if found != spec.weights:
        raise UsageError(
            f"--checkpoint {checkpoint} is {found[:19]}…, the artifact was made of {spec.weights[:19]}"
        )


def _require_network(spec: ModelSpec) -> None:
    if spec.is_block or spec.name.startswith("peak/") or spec.option("in_chans", 3) != 3:
        raise UsageError(f"{spec.name} classifies no colour images: only networks that do can be evaluated")


def _record(path: Path, facts: FileFacts) -> Artifact | None:
    """What `convert` wrote beside the file, or the cache beside its own. None where there is none of ours.

    Raises UsageError where it is of other bytes: then the file was changed, or is not that one.
    """
    stem = path.name.removesuffix(".zip").removesuffix(path.suffix).removesuffix(".mlpackage")
    for place in (path.with_name(f"{stem}.json"), path.with_name("artifact.json")):
        record = _read_record(place)
        if record is None or record.path.name != path.name:
            continue
        if _bytes_of(path, facts) != record.sha256:
            raise UsageError(
                f"{path} is not the file that {place.name} beside it describes (sha256"
                f" {record.sha256[:12]}…): it was changed or damaged. Convert it again; or move the JSON away"
                " and name the model"
            )
        return record
    return None


def _read_record(place: Path) -> Artifact | None:
    """None for what is no record of an artifact: a foreign file may have any JSON beside it."""
    from converters.artifact import Artifact

    if not place.is_file() or place.stat().st_size > MAX_RECORD_BYTES:
        return None
    try:
        value = json.loads(place.read_bytes())
        return Artifact.from_dict({"tensors": "", "tensors_sha256": "", **value})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _identity(path: Path, facts: FileFacts) -> str:
    """As a suite knows the file: of an ONNX file, its weights in other files are part of it."""
    from converters.onnx_header import identity

    return identity(path) if facts.kind == "onnx" else facts.sha256


def _bytes_of(path: Path, facts: FileFacts) -> str:
    """The sha256 that a record would hold: of a package's folder, that of the archive it is packed as."""
    if path.is_file():
        return facts.sha256
    from converters.files import sha256_of
    from converters.mlpackage_archive import pack

    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed.zip"
        pack(path, packed)
        return sha256_of(packed)


def _shape(
    args: argparse.Namespace, path: Path, facts: FileFacts, declared: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """The input's shape; sides that the file leaves open are those of the command line."""
    if len(facts.inputs) > 1:
        names = ", ".join(value.name for value in facts.inputs)
        raise UsageError(f"{path} has the inputs {names}; one is expected")
    given = options.positive("--resolution")(args.resolution) if args.resolution else None
    if not declared:
        declared = (-1, 3, -1, -1)  # an engine without a record tells nothing
    if len(declared) != 4 or declared[1] not in (3, -1):
        text = "x".join(str(side) for side in declared)
        raise UsageError(f"{path} takes inputs of {text}; expected are {LAYOUT}")
    sides = {side for side in declared[2:] if side > 0}
    side = sides.pop() if sides else given
    if side is None:
        raise UsageError(f"{path} leaves the image's side open: say it with --resolution")
    if sides or given not in (None, side):
        raise UsageError(
            f"{path} takes images of {declared[2]}x{declared[3]}, --resolution is {given or side}"
        )
    return _batch(args, declared[0], path), 3, side, side


def _batch(args: argparse.Namespace, declared: int, path: Path) -> int:
    """The file's own, or where it is open that of the command line."""
    given = options.positive("--batch-size")(args.batch_size) if args.batch_size else None
    if declared < 1:
        return given or USUAL_BATCH
    if given not in (None, declared):
        raise UsageError(f"--batch-size {given}: {path} takes batches of {declared}")
    return declared


def _classes(facts: FileFacts, record: Artifact | None) -> int | None:
    outputs = facts.outputs or (record.outputs if record else ())
    last = outputs[0].shape[-1] if outputs and len(outputs[0].shape) == 2 else -1
    return last if last > 0 else None


def _backend(args: argparse.Namespace, kind: str, precision: str) -> str:
    known = BACKENDS[kind]
    usual = "rounding" if kind == "onnx" and precision in ROUNDED else known[0]
    chosen: str = args.backend or usual
    if chosen not in known:
        raise UsageError(f"--backend {chosen}: a file of kind {kind} is run by {', '.join(known)}")
    if chosen == "rounding" and precision not in ROUNDED:
        raise UsageError(f"--backend rounding is for {', '.join(ROUNDED)}; the file computes in {precision}")
    return chosen
