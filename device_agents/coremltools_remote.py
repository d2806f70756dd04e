"""Apple's own route: the remote device of coremltools and its MLModelBenchmarker, on a Mac with Xcode 16.

Every remote prediction is several `devicectl` calls, so the phone idles and clocks down between samples: the
figures are not those of steady state and have a protocol of their own. The benchmarker gives milliseconds;
they become whole nanoseconds again, as the phone sent them. coremltools 9.0 tries 20 times, 0.5 s apart, and
cannot be told otherwise; image inputs fail in it, so tensors alone are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agents.external_tools import ToolFailed, problem_of
from device_agents.problems import DeviceProblem
from runners.measurement import Phases, Protocol, Round

DRIVER = "coremltools"
UNITS = {"CPU_ONLY": "cpuOnly", "CPU_AND_GPU": "cpuAndGPU", "CPU_AND_NE": "cpuAndNeuralEngine", "ALL": "all"}


@dataclass(frozen=True, slots=True)
class RemoteSamples:
    """Nanoseconds as the phone's app told them; the first prediction stands apart as warm-up."""

    load_ns: tuple[int, ...]
    warmup_ns: int
    samples_ns: tuple[int, ...]


def connected_phones() -> list[Any]:
    """coremltools' `Device` values of connected iPhones. Raises DeviceProblem."""
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceType

    try:
        return list(Device.get_connected_devices(DeviceType.IPHONE))
    except (ValueError, OSError) as error:
        raise DeviceProblem("tool_missing", str(error)) from None
    except Exception as error:
        raise _named(error, "") from None


async def prepared(device: Any, *, team: str) -> Any:
    """The phone with Apple's runner app built, signed by `team`, installed and started: needs Xcode."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

    try:
        return await device.prepare_for_model_debugging(AppSigningCredentials(development_team=team))
    except (ValueError, OSError) as error:
        raise DeviceProblem("tool_missing", str(error)) from None
    except Exception as error:
        raise _named(error, device.identifier) from None


async def benchmark(
    model: Any, device: Any, inputs: Mapping[str, npt.NDArray[Any]], *, loads: int, predictions: int
) -> RemoteSamples:
    """Loads and predictions of `model` (an MLModel) on a prepared phone. Raises DeviceProblem."""
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    benchmarker = MLModelBenchmarker(model, device)
    try:
        loaded = await benchmarker.benchmark_load(iterations=loads)
        taken = await benchmarker.benchmark_predict(inputs=dict(inputs), iterations=predictions + 1)
    except (TimeoutError, OSError) as error:
        raise DeviceProblem("tool_failed", str(error)) from None
    except Exception as error:
        raise _named(error, device.identifier) from None
    samples = [_nanoseconds(ms) for ms in taken.samples]
    return RemoteSamples(tuple(_nanoseconds(ms) for ms in loaded.samples), samples[0], tuple(samples[1:]))


def round_of(samples: RemoteSamples, device: Any, compute_unit: str, *, version: str) -> Round:
    """One round: what the app does between processes, coremltools does not tell."""
    protocol = Protocol(
        backend="coreml",
        runtime=f"Core ML, iOS {device.os_version} ({device.os_build_number}), by coremltools {version}",
        device=f"{DRIVER}, {device.type.value}",
        threads=0,
        clock="device",
        sync="a remote call per prediction; the phone idles between samples",
        timed="a prediction, as coremltools' runner app counts it",
        inputs="1, the same each time",
        warmup="the first prediction",
        min_sample_ns=0,
        compute_unit=UNITS[compute_unit],
    )
    return Round(
        round_index=0,
        position=0,
        attempt=0,
        protocol=protocol,
        loop_count=1,
        samples_ns=np.array(samples.samples_ns, dtype=np.int64),
        warmup_ns=np.array([samples.warmup_ns], dtype=np.int64),
        steady=False,
        output_error=float("nan"),
        phases=Phases(load_ns=samples.load_ns[0] if samples.load_ns else 0),
        started_at_ns=0,
        environment={
            "device": {"cold_load_ns": list(samples.load_ns[:1]), "warm_load_ns": list(samples.load_ns[1:])}
        },
        flags=("other_tool",),
    )


def _nanoseconds(milliseconds: float) -> int:
    return max(1, round(milliseconds * 1e6))


def _named(error: Exception, identifier: str) -> DeviceProblem:
    """coremltools wraps what devicectl said, as bytes, in errors of private classes."""
    said = getattr(error, "message", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return problem_of(ToolFailed(["coremltools", "remote device"], text), identifier)
