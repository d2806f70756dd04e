"""Synthetic sweeps: cases whose times follow a law of batch, resolution, threads and precision."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from converters.artifact import Artifact, Parity, TensorInfo
from models.spec import Case, ModelSpec
from reports.records import CaseResult
from runners.measurement import Failure, Top1

# model -> (ms and GMACs of one image at 224 on one thread, exponent of the pixels, parallel share)
MODELS = {
    "nextvit_small": (58.0, 5.8, 1.10, 0.92),
    "timm/resnet50": (31.0, 4.1, 1.02, 0.95),
    "timm/mobilenetv2_100": (4.2, 0.3, 0.96, 0.80),
}
SPEED = {"fp32": 1.0, "int8": 0.42, "bf16": 0.7}
LOWERED = ("bf16",)  # the runtime makes it of the fp32 file
# (agreeing, of) the four inputs that are timed, at batch 1, and the largest error of a round
AS_TIMED = {"fp32": (4, 4, 3.1e-7), "int8": (3, 4, 0.21), "bf16": (4, 4, 8e-3)}


def case_of(
    name: str = "nextvit_small",
    *,
    batch: int = 1,
    side: int = 224,
    threads: int = 1,
    precision: str = "fp32",
    backend: str = "onnxruntime",
) -> Case:
    return Case(
        ModelSpec.of(name, resolution=side), backend, batch_size=batch, threads=threads, precision=precision
    )


def milliseconds(case: Case) -> float:
    """What one inference takes: a batch pays a fifth less per image, threads as Amdahl's law has it."""
    image_ms, _, exponent, share = MODELS[case.model.name]
    per_image = 0.8 + 0.2 / case.batch_size
    amdahl = (1 - share) + share / case.threads
    pixels = (case.model.resolution / 224) ** (2 * exponent)
    return image_ms * case.batch_size * per_image * amdahl * pixels * SPEED[case.precision]


def result(
    sample: ModuleType, case: Case, *, ms: float | None = None, options: dict[str, str] | None = None,
    between: float = 0.004, **changes: object,
) -> CaseResult:  # fmt: skip
    """A measured case, its protocol saying of threads and precision what a runtime would."""
    gmacs = MODELS[case.model.name][1] * (case.model.resolution / 224) ** 2
    seed = int(case.id[:6], 16)
    told = ms or milliseconds(case)
    made = sample.measured(
        case, gmacs, 30.0, gmacs * 1e3 / told, seed=seed, between=between, spread=0.003, **changes
    )
    runtime = {
        "intra_op_num_threads": str(case.threads),
        "allow_spinning": "no workers" if case.threads == 1 else "1",
        "executed_precision": case.precision,
        **(options or {}),
    }
    agreeing, positions, error = AS_TIMED[case.precision]
    rounds = tuple(
        replace(
            r, protocol=replace(r.protocol, threads=case.threads, options=runtime), output_error=error,
            top1=Top1(agreeing * case.batch_size, positions * case.batch_size),
        )
        for r in made.rounds
    )  # fmt: skip
    artifact = _file_of(made.artifact, case)
    return replace(made, artifact=artifact, rounds=rounds, last_protocol_id=rounds[-1].protocol.id)


def failed(case: Case, kind: str = "out_of_memory") -> CaseResult:
    return CaseResult(case, None, (), Failure(kind, "it needs more memory than there is", "Use less."), 1)


def pending(case: Case) -> CaseResult:
    return CaseResult(case)


def noisy(sample: ModuleType, case: Case, modes: float = 0.5) -> CaseResult:
    """Samples of two modes so far apart that the number is in doubt."""
    return result(sample, case, modes=modes)


def suite_cases() -> list[Case]:
    """The matrix of the suite `sweep`: batch x threads at 224, and resolution x precision at batch 1."""
    found = [
        *(case_of(name, batch=b, threads=t) for name in MODELS for b in (1, 2, 4, 8) for t in (1, 2)),
        *(
            case_of(name, side=s, precision=p)
            for name in MODELS
            for s in (160, 224, 288)
            for p in ("fp32", "int8")
        ),
    ]
    return list(dict.fromkeys(found))


def _file_of(artifact: Artifact, case: Case) -> Artifact:
    """What such a case runs: a classifier's file, of its precision unless the runtime lowers one of fp32."""
    outputs = (TensorInfo("output", "float32", (case.batch_size, 1000)),)
    if case.precision == "fp32" or case.precision in LOWERED:
        return replace(artifact, precision="fp32", outputs=outputs)
    parity = Parity(0.02, 0.03, 0.9991, 15 / 16, 1.0, 0.75, 16)
    *steps, last = artifact.steps
    quantized = replace(last, name="quantized", parity=parity)
    return replace(artifact, outputs=outputs, steps=(*steps, quantized))


def log_medians(found: CaseResult) -> np.ndarray:
    """Logarithms of the rounds' medians, straight from the samples."""
    return np.log([np.median(r.samples_ns / r.loop_count) for r in found.rounds])
