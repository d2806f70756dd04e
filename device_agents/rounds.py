"""What a phone told, as the records that store and report know: Round, Protocol and Failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from device_agents.bodies import (
    Compiled,
    Conditions,
    Loaded,
    Operation,
    Outputs,
    Placement,
    Received,
    RoundTaken,
    body_of,
)
from device_agents.host import Taken
from device_agents.job import DeviceJob, read_sets
from device_agents.journal import Journal
from device_agents.placement import left_neural_engine, shares
from device_agents.problems import DeviceProblem
from runners.disturbance import standstill
from runners.measurement import Failure, Phases, Protocol, Round, Top1
from runners.verify import relative_error, top1_of, total_top1

TIMED = "MLModel.prediction with inputs and output buffers made before"
HOT = ("serious", "critical")
Array = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compared:
    """A device's outputs against the references: largest relative error (NaN: not compared), agreement."""

    error: float = float("nan")
    top1: Top1 | None = None
    failure: Failure | None = None


def protocol_of(job: DeviceJob, received: Received, *, driver: str) -> Protocol:
    """A protocol of its own per device model, system version, compute unit and way of measuring."""
    per_launch = job.rounds_per_launch
    return Protocol(
        backend="coreml" if job.model.format == "mlpackage-zip" else "onnxruntime",
        runtime=f"{received.runtime}, {received.os} ({received.os_build})",
        device=f"{driver}, {received.device_model}",
        threads=0,
        clock="simulated" if driver == "simulated" else "device",
        sync="the call returns when the outputs are ready",
        timed=TIMED,
        inputs=f"{job.inputs.sets} real-valued, rotated",
        warmup=f"{job.timing.warmup_ns} ns and until steady, at most {job.timing.max_warmup_ns} ns",
        min_sample_ns=job.timing.min_sample_ns,
        compute_unit=job.compute_unit,
        options={
            "agent": received.agent,
            "round": "a fresh process" if per_launch == 1 else f"a fresh model, {per_launch} in a process",
        },
    )


def rounds_of(
    taken: Taken, *, driver: str, outputs: Compared, modules: Mapping[str, str] | None = None
) -> tuple[Round, ...]:
    """Every round in the journal. `outputs` are the launch's own, compared once for all of its rounds.

    `modules` is the module path by the name of an operation's output, where the package tells it.
    """
    journal, job = taken.journal, taken.job
    received = _only(journal, "received", Received)
    if received is None:
        return ()
    protocol = protocol_of(job, received, driver=driver)
    placed = _only(journal, "placement", Placement)
    operations = placed.operations if placed else ()
    facts = _facts(journal, received, operations)
    fallen = ("off_neural_engine",) if left_neural_engine(operations, job.compute_unit) else ()
    found = []
    for place, (body, load_ns) in enumerate(_with_loads(journal)):
        environment: dict[str, Any] = {
            "before": asdict(body.before), "after": asdict(body.after), "device": facts,
        }  # fmt: skip
        samples_ns = np.array(body.samples_ns, dtype=np.int64)
        if still := standstill(samples_ns):
            environment["disturbances"] = still
        if place == 0:
            environment["operations"] = [_operation(operation, modules or {}) for operation in operations]
        found.append(
            Round(
                round_index=body.round_index,
                position=0,
                attempt=0,
                protocol=protocol,
                loop_count=body.loop_count,
                samples_ns=samples_ns,
                warmup_ns=np.array(body.warmup_ns, dtype=np.int64),
                steady=body.steady,
                output_error=outputs.error,
                top1=outputs.top1,
                phases=Phases(load_ns=load_ns, warmup_ns=body.warmup_span_ns, timed_ns=body.timed_span_ns),
                started_at_ns=body.started_at_ns,
                environment=environment,
                flags=(*_flags(body.before, body.after), *(("disturbed",) if still else ()), *fallen),
                peak_rss_bytes=max(0, body.before.memory_bytes, body.after.memory_bytes),
            )
        )
    return tuple(sorted(found, key=lambda taken_round: taken_round.round_index))


def check_outputs(taken: Taken, references: Sequence[Array], *, tolerance: float) -> Compared:
    """The model's only output, with the failure where its error is beyond `tolerance`.

    Raises DeviceProblem where the outputs are missing or of another shape than the references.
    """
    named = _only(taken.journal, "outputs", Outputs)
    if named is None or taken.outputs is None:
        raise DeviceProblem("tool_failed", "the phone's outputs are not here to be compared")
    sets = read_sets(taken.outputs, named.tensors, named.sets)
    if len(named.tensors) != 1 or len(sets) != len(references):
        raise DeviceProblem(
            "bad_job",
            f"{len(sets)} sets of {len(named.tensors)} outputs against {len(references)} references",
        )
    errors, agreed = [], []
    for index, ((output,), reference) in enumerate(zip(sets, references, strict=True)):
        if output.size != reference.size:
            message = f"output {index} has shape {output.shape}, the reference {reference.shape}"
            return Compared(failure=Failure("wrong_output", message, "Convert the model again."))
        shaped = output.reshape(reference.shape)
        errors.append(relative_error(shaped, reference))
        agreed.append(top1_of(shaped, reference))
    worst, top1 = float(np.max(errors)), total_top1(one for one in agreed if one is not None)
    if worst <= tolerance:
        return Compared(worst, top1)
    message = (
        f"the device's outputs are off by {worst:.3g} relative to the reference (tolerance {tolerance:.3g})"
    )
    advice = "Compare the compute units: where cpuOnly is right, the accelerator computes something else."
    failure = Failure("wrong_output", message, advice, detail={"relative_error": str(worst)})
    return Compared(worst, top1, failure)


def _facts(journal: Journal, received: Received, operations: Sequence[Operation]) -> dict[str, Any]:
    compiled = [body_of(entry) for entry in journal.of_kind("compiled")]
    loads = [body for entry in journal.of_kind("loaded") if isinstance(body := body_of(entry), Loaded)]
    return {
        **asdict(received),
        "compile_ns": [body.duration_ns for body in compiled if isinstance(body, Compiled)],
        "cold_load_ns": [body.duration_ns for body in loads if body.cold],
        "warm_load_ns": [body.duration_ns for body in loads if not body.cold],
        "launches": journal.launches,
        "interruptions": len(journal.of_kind("interrupted")),
        "placement": [asdict(share) for share in shares(operations)],
    }


def _operation(operation: Operation, modules: Mapping[str, str]) -> dict[str, Any]:
    module = modules.get(operation.name)
    return {**asdict(operation), **({"module": module} if module else {})}


def _with_loads(journal: Journal) -> list[tuple[RoundTaken, int]]:
    """Every round with the duration of the load before it."""
    found, load_ns = [], 0
    for entry in journal.entries:
        body = body_of(entry)
        if isinstance(body, Loaded):
            load_ns = body.duration_ns
        elif isinstance(body, RoundTaken):
            found.append((body, load_ns))
    return found


def _flags(before: Conditions, after: Conditions) -> tuple[str, ...]:
    conditions: Mapping[str, bool] = {
        "throttled": any(reading.thermal_state in HOT for reading in (before, after)),
        "low_power_mode": before.low_power_mode or after.low_power_mode,
    }
    return tuple(name for name, holds in conditions.items() if holds)


def _only(journal: Journal, kind: str, form: type[T]) -> T | None:
    entries = journal.of_kind(kind)
    body = body_of(entries[-1]) if entries else None
    return body if isinstance(body, form) else None
