"""Performance reports that Xcode writes for a Core ML model: `X.mlperf/report.json`.

What stands in them was read from reports, since Apple documents none of it. Samples are seconds. Three things
mislead whoever reads them naively: the first prediction of every experiment (0, 40 and 80 of 3 x 40) is a
warm-up and 2 to 40 times slower; `numOperations` is the number of predictions, not of operations; and of the
load samples the first of every group is cold. Who owns the device stands in them too: its identifier, serial
number, name, and the path of the model are not read, and so cannot reach a store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from device_agents.bodies import NOT_KNOWN, Operation
from runners.measurement import Samples

MAX_BYTES = 256 << 20
MAX_SAMPLES = 1_000_000
MAX_OPERATIONS = 100_000
MAX_BLOCKS = 64
COMPUTE_UNITS = {0: "cpuOnly", 1: "cpuAndGPU", 2: "all", 3: "cpuAndNeuralEngine"}
SINCE_1970_NS = 978_307_200 * 10**9  # the reports count from 2001-01-01
_PLACES = {"neuralengine": "neural_engine", "ane": "neural_engine", "gpu": "gpu", "cpu": "cpu"}


class XcodeReportError(Exception):
    """A file that Xcode cannot have written, or in no form that is known; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class XcodeReport:
    """One report. Samples are nanoseconds in order: `samples_ns` without, `warmup_ns` of, the warm-ups.

    `experiments` holds the samples again, per experiment; `started_at_ns` is UTC since 1970.
    """

    model: str
    model_type: str
    device_model: str
    os: str
    compute_unit: str
    started_at_ns: int
    samples_ns: Samples
    warmup_ns: Samples
    experiments: tuple[Samples, ...]
    cold_load_ns: Samples
    warm_load_ns: Samples
    compile_ns: Samples
    operations: tuple[Operation, ...]


def read(path: Path) -> XcodeReport:
    """A report, from its `X.mlperf` folder or its `report.json`. Raises XcodeReportError."""
    value = _loaded(path / "report.json" if path.is_dir() else path)
    try:
        return _report(value, path.stem if path.is_dir() else path.parent.stem)
    except XcodeReportError as error:
        raise XcodeReportError(f"{path}: {error}") from None


def _report(value: Mapping[str, Any], fallback: str) -> XcodeReport:
    if not isinstance(value.get("jsonVersion"), int | str):
        raise XcodeReportError("no jsonVersion: it is no performance report of Xcode")
    results = _table(value, "deviceResults")
    config = _table(results, "perfRunConfig")
    warmup, timed, experiments = _experiments(results, config)
    loads = _samples(_table(results, "load")) if "load" in results else np.empty(0, dtype=np.int64)
    cold = _firsts(len(loads), _count(config, "experimentIterations"), "load samples")
    device, metadata = _table(value, "deviceInfo"), _table(value, "modelMetadata")
    unit = value.get("computeUnit")
    if type(unit) is not int or unit not in COMPUTE_UNITS:
        raise XcodeReportError(f"computeUnit is {str(unit)[:40]}, known are {sorted(COMPUTE_UNITS)}")
    return XcodeReport(
        model=_file_stem(_text(metadata, "fileName")) or fallback,
        model_type=_text(metadata, "modelType"),
        device_model=_text(device, "modelName"),
        os=_text(device, "osNameAndVersionWithoutBuildNumber"),
        compute_unit=COMPUTE_UNITS[unit],
        started_at_ns=_moment(_table(results, "predict").get("startTime")),
        samples_ns=timed,
        warmup_ns=warmup,
        experiments=experiments,
        cold_load_ns=loads[cold],
        warm_load_ns=loads[~cold],
        compile_ns=_samples(_table(results, "compile"))
        if "compile" in results
        else np.empty(0, dtype=np.int64),
        operations=_operations(results),
    )


def _experiments(
    results: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Samples, Samples, tuple[Samples, ...]]:
    """(warm-ups, the others, the others per experiment)."""
    predict = _table(results, "predict")
    samples = _samples(predict)
    told = predict.get("numOperations")
    if type(told) is int and told != len(samples):
        raise XcodeReportError(f"numOperations is {told}, but there are {len(samples)} predictions")
    groups, each = _count(config, "experimentIterations"), _count(config, "predictionCount")
    if groups * each != len(samples) or each < 2:
        raise XcodeReportError(
            f"{len(samples)} predictions are not {groups} experiments of {each} (at least 2):"
            " the warm-ups cannot be told apart"
        )
    parts = samples.reshape(groups, each)
    return parts[:, 0].copy(), parts[:, 1:].ravel(), tuple(part[1:] for part in parts)


def _firsts(count: int, groups: int, what: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which are the first of their group."""
    if count % groups:
        raise XcodeReportError(f"{count} {what} are not {groups} groups of the same length")
    first: np.ndarray[Any, np.dtype[np.bool_]] = np.arange(count) % max(1, count // groups) == 0
    return first


def _operations(results: Mapping[str, Any]) -> tuple[Operation, ...]:
    """Of all functions and nested blocks, in order; empty for a model that is no program."""
    structure = results.get("modelStructure")
    program = structure.get("program") if isinstance(structure, Mapping) else None
    inner = program.get("_0") if isinstance(program, Mapping) else None
    functions = inner.get("functions") if isinstance(inner, Mapping) else None
    found: list[Operation] = []
    for function in (functions or {}).values() if isinstance(functions, Mapping) else ():
        _collect(function.get("block") if isinstance(function, Mapping) else None, found, 0)
    return tuple(found)


def _collect(block: object, found: list[Operation], depth: int) -> None:
    entries = block.get("operations") if isinstance(block, Mapping) else None
    if depth > MAX_BLOCKS or not isinstance(entries, list) or len(found) + len(entries) > MAX_OPERATIONS:
        if entries:
            raise XcodeReportError(f"more than {MAX_OPERATIONS} operations, or blocks nested too deep")
        return
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise XcodeReportError("an operation is no table")
        found.append(_operation(entry))
        for nested in entry.get("blocks") or ():
            _collect(nested, found, depth + 1)


def _operation(entry: Mapping[str, Any]) -> Operation:
    outputs = entry.get("outputs")
    first = outputs[0] if isinstance(outputs, list) and outputs else {}
    cost = entry.get("cost")
    weight = cost.get("weight") if isinstance(cost, Mapping) else None
    usage = entry.get("deviceUsage")
    preferred = "unknown"
    supported: tuple[str, ...] = ()
    if isinstance(usage, Mapping):
        preferred = _place(usage.get("preferred"))
        listed = usage.get("supported")
        places = [_place(item) for item in listed[:8]] if isinstance(listed, list) else []
        supported = tuple(dict.fromkeys(place for place in places if place != "unknown"))
    return Operation(
        name=_text(first, "name") if isinstance(first, Mapping) else "",
        operator=_text(entry, "operatorName"),
        preferred=preferred,
        supported=supported,
        cost_ppb=NOT_KNOWN if weight is None else _share(weight),
    )


def _place(value: object) -> str:
    """`neuralEngine` as a word, or as the only key of a table: `{"neuralEngine": {...}}`."""
    word = next(iter(value), "") if isinstance(value, Mapping) else value
    return _PLACES.get(str(word).lower().replace("mlcomputedevice", "").replace("_", "")[:32], "unknown")


def _share(weight: object) -> int:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise XcodeReportError(f"an operation's cost is {str(weight)[:40]}, not from 0 to 1")
    return round(weight * 1e9)


def _samples(table: Mapping[str, Any]) -> Samples:
    values = table.get("samples")
    if not isinstance(values, list) or len(values) > MAX_SAMPLES:
        raise XcodeReportError(f"samples are missing, or more than {MAX_SAMPLES}")
    return np.array([_nanoseconds(value) for value in values], dtype=np.int64)


def _nanoseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 3600:
        raise XcodeReportError(f"the sample {str(value)[:40]} is no time in seconds")
    return max(1, round(value * 1e9))


def _moment(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e10:
        return 0
    return round(value * 1e9) + SINCE_1970_NS if math.isfinite(value) else 0


def _count(table: Mapping[str, Any], name: str) -> int:
    value = table.get(name)
    if type(value) is not int or not 1 <= value <= MAX_SAMPLES:
        raise XcodeReportError(f"{name} is {str(value)[:40]}, not a whole number above 0")
    return value


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, Mapping):
        raise XcodeReportError(f"{name} is missing")
    return found


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    return "".join(c for c in value if c.isprintable())[:128] if isinstance(value, str) else ""


def _file_stem(name: str) -> str:
    """The last part of a path without its ending: a path tells whose computer it was."""
    return Path(name.replace("\\", "/")).name.rsplit(".", 1)[0]


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise XcodeReportError(f"{path} is larger than {MAX_BYTES} bytes")
        value = json.loads(path.read_bytes().decode(), parse_constant=_refuse)
    except OSError as error:
        raise XcodeReportError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise XcodeReportError(f"{path} is no JSON, or was cut short ({str(error)[:80]})") from None
    if not isinstance(value, Mapping):
        raise XcodeReportError(f"{path} holds no JSON object")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
