"""What the conversion stage hands on: a file that a runtime loads, how it was made, and how equal it is.

No toolchain is imported here: runners, reports and the command line read these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from models.spec import Case, ModelSpec, Option, Options, sorted_options

# Where only the largest difference is judged: no cosine is below it.
NO_COSINE = -1.0

# Images, at least, that a lowered precision is judged on; none of them calibrates.
JUDGED = 16

# Among the facts of an int8 file: on what it was calibrated, and on how many other inputs it was judged.
CALIBRATION_FACTS = ("calibration", "calibration_images", "calibration_sha256", "judged_images")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, element type (NumPy's name, `float32`) and shape of an artifact's input or output.

    A dimension that the file leaves open, the batch of `dynamic_batch`, is -1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a step's outputs are from the eager fp32 model's, on the same random real-valued inputs.

    `max_relative` is the largest absolute difference divided by the reference's largest magnitude;
    `cosine` the smallest cosine similarity over the inputs; `top1_agreement` the share of positions whose
    largest channel is the same (classes for a network, channels at each pixel for a block), of
    `top1_positions` (0 where an older version did not count them). `least_cosine` is the bar for `cosine`
    where there is one.
    """

    max_absolute: float
    max_relative: float
    cosine: float
    top1_agreement: float
    tolerance: float
    least_cosine: float = NO_COSINE
    top1_positions: int = 0

    @property
    def top1_agreeing(self) -> int:
        return round(self.top1_agreement * self.top1_positions)

    @property
    def passed(self) -> bool:
        """NaN fails: every comparison with NaN is false."""
        return self.max_relative <= self.tolerance and (
            self.least_cosine == NO_COSINE or self.cosine >= self.least_cosine
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the parity ledger: `fused`, `exported`, `simplified`, ... in the order they were made.

    `tool` names the program and version (`torch.onnx dynamo 2.14.1`); `note` why it was chosen or what it
    did; `first_divergence` the first module whose output differs, looked for only where parity failed.
    """

    name: str
    tool: str
    parity: Parity | None
    duration_ns: int
    note: str = ""
    first_divergence: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a runtime loads, found again by `key` and trusted only while its sha256 is `sha256`.

    `tensors` is the path of an `.npz` beside it with `input_0`..`input_{K-1}` (real-valued, from `seed`) and
    `reference_0`..`reference_{K-1}`: the eager fp32 model's outputs for them, or where weights were
    compressed those of the model with these weights; inputs of an image are pixels. `gmacs` counts
    multiply-accumulates at batch 1 in units of 1e9, `params_m` parameters in millions, both of the network as
    it is deployed: where it is fused, of the fused one, in which parallel branches are one. `folded` counts
    what reparameterization removed (`{"conv_bn": 12}`); `op_counts` the graph's operators. `target`, `build`
    and `flavour` are the request's. `source_key` is the artifact that this one was built from, where it was
    made in two stages; `facts` what the toolchain tells about the file (an engine's weight and activation
    bytes); `modules` what the network's parts are called, by module path (`{"stages.0.0": "NCB"}`).
    """

    kind: str  # "onnx", "exported_program", "engine", "mlpackage"
    path: Path
    sha256: str
    size_bytes: int
    key: str
    model: ModelSpec
    batch_size: int
    precision: str
    fused: bool
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    tensors: Path
    tensors_sha256: str
    seed: int
    params_m: float
    gmacs: float
    steps: tuple[Step, ...]
    batchnorms_left: int = 0
    folded: Mapping[str, int] = field(default_factory=dict)
    op_counts: Mapping[str, int] = field(default_factory=dict)
    toolchain: Mapping[str, str] = field(default_factory=dict)
    conversion_ns: int = 0
    target: str = ""
    build: Options = ()
    flavour: str = ""
    source_key: str = ""
    facts: Mapping[str, Option] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)

    @property
    def parity(self) -> Parity | None:
        """That of the last step which could be run here: the file's own, but for an engine without a GPU."""
        return next((step.parity for step in reversed(self.steps) if step.parity is not None), None)

    def to_dict(self, *, relative_to: Path | None = None) -> dict[str, Any]:
        """Plain JSON value; paths relative to the cache folder where one is given, so a cache can move."""
        value = {**asdict(self), "build": dict(self.build)}
        value["model"] = self.model.to_dict()
        for name in ("path", "tensors"):
            path = getattr(self, name)
            value[name] = str(path.relative_to(relative_to) if relative_to else path)
        for step in value["steps"]:
            if step["parity"] and not step["parity"]["top1_positions"]:
                del step["parity"]["top1_positions"]  # the record of an older file stays as it was written
        return value

    @staticmethod
    def from_dict(value: Mapping[str, Any], *, relative_to: Path | None = None) -> Artifact:
        base = relative_to or Path()
        return Artifact(
            **{
                **value,
                "path": base / value["path"],
                "tensors": base / value["tensors"],
                "model": ModelSpec.from_dict(value["model"]),
                "inputs": tuple(_tensor(t) for t in value["inputs"]),
                "outputs": tuple(_tensor(t) for t in value["outputs"]),
                "steps": tuple(_step(s) for s in value["steps"]),
                "build": sorted_options(value.get("build", {})),
            }
        )


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """What to convert: everything about a Case that changes the file, and nothing that does not.

    `target` and `build` are the Case's. `flavour` names the runtime that a quantized graph is written for:
    ONNX Runtime on a CPU (`cpu`) and TensorRT (`trt`) want their QuantizeLinear pairs in different places.
    `calibration` are the images that an int8 graph is calibrated on, as models.calibration writes them, empty
    for random inputs; `calibration_data` is where they lie: a folder, or `digits`. `judged_count` inputs
    behind the `input_count` timed ones are kept with their references, for a runtime that lowers the
    precision by itself.
    """

    model: ModelSpec
    kind: str
    batch_size: int = 1
    precision: str = "fp32"
    fused: bool = True
    checkpoint: Path | None = None
    input_seed: int = 0
    input_count: int = 4
    target: str = ""
    build: Options = ()
    flavour: str = ""
    calibration: str = ""
    calibration_data: str = ""
    judged_count: int = 0

    @property
    def judged(self) -> ConversionRequest:
        """The same with enough inputs for JUDGED images."""
        return replace(self, judged_count=max(0, -(-JUDGED // self.batch_size) - self.input_count))

    @staticmethod
    def for_case(case: Case, kind: str, *, flavour: str = "") -> ConversionRequest:
        """`flavour` is the backend's; it matters for quantized graphs only, so that others are shared."""
        return ConversionRequest(
            case.model,
            kind,
            case.batch_size,
            case.precision,
            case.fused,
            target=case.target,
            build=case.build,
            flavour=flavour if case.precision == "int8" else "",
            calibration=case.calibration if case.precision == "int8" else "",
        )

    def to_dict(self) -> dict[str, Any]:
        value = {**asdict(self), "build": dict(self.build)}
        value["model"] = self.model.to_dict()
        value["checkpoint"] = str(self.checkpoint) if self.checkpoint else None
        return value

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> ConversionRequest:
        checkpoint = value["checkpoint"]
        return ConversionRequest(
            **{
                **value,
                "model": ModelSpec.from_dict(value["model"]),
                "checkpoint": Path(checkpoint) if checkpoint else None,
                "build": sorted_options(value.get("build", {})),
            }
        )


@dataclass(frozen=True, slots=True)
class ConversionFailure:
    """Why a conversion gave no file: the step, and where known the operator, module and source line.

    `kind` is `bad_input`, `unsupported`, `export_failed`, `parity_failed`, `precision_mismatch`, `crashed`,
    `out_of_memory` or `deadline`; `advice` is one sentence on what would help.
    """

    kind: str
    step: str
    message: str
    operator: str = ""
    module: str = ""
    source_line: str = ""
    advice: str = ""
    steps: tuple[Step, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> ConversionFailure:
        return ConversionFailure(**{**value, "steps": tuple(_step(s) for s in value["steps"])})


class ConversionError(Exception):
    """Raised inside a converter; carries the ConversionFailure that is recorded."""

    def __init__(self, failure: ConversionFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _tensor(value: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(value["name"], value["dtype"], tuple(value["shape"]))


def _step(value: Mapping[str, Any]) -> Step:
    parity = value["parity"]
    return Step(**{**value, "parity": Parity(**parity) if parity else None})
