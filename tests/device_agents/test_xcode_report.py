"""Import of Xcode's performance reports. The report here is synthetic: written by us, in the known form."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from device_agents.placement import left_neural_engine, shares
from device_agents.xcode_report import XcodeReportError, read

SECRETS = ("00008110-001A2B3C4D5E6F70", "F2LXK0ABC1", "Somebody's iPhone", "/Users/somebody/secret")


def operation(operator, name, place=None, weight=None, **more):
    value = {"operatorName": operator, "outputs": [{"name": name}], **more}
    if weight is not None:
        value["cost"] = {"weight": weight}
    if place:
        value["deviceUsage"] = {"preferred": {place: {}}, "supported": [{place: {}}, {"cpu": {}}]}
    return value


def synthetic(compute_unit=2):
    """3 experiments of 40 predictions of 1.5 ms, warm-ups of 30 ms, 3 groups of 3 loads."""
    predictions = [0.030 if i % 40 == 0 else 0.0015 + 1e-6 * (i % 7) for i in range(120)]
    nested = [operation("ios16.relu", "x_3", "gpu", 0.2)]
    main = [
        operation("const", "w"),
        operation("ios16.conv", "x_1", "neuralEngine", 0.7),
        operation("cond", "x_2", "cpu", 0.1, blocks=[{"operations": nested}]),
    ]
    return {
        "jsonVersion": 1,
        "deviceResultVersion": 1,
        "computeUnit": compute_unit,
        "deviceInfo": {
            "modelName": "iPhone 12 Pro Max", "osNameAndVersionWithoutBuildNumber": "iOS 16.4",
            "deviceID": SECRETS[0], "serialNumber": SECRETS[1], "displayName": SECRETS[2],
            "deviceType": "iPhone",
        },
        "modelMetadata": {
            "fileName": "/Users/somebody/secret/nextvit_small.mlpackage", "size": 1, "modelType": "MLProgram",
            "functionNames": ["main"], "modelUrl": "file:///Users/somebody/secret/x", "rawMetadata": {},
        },
        "deviceResults": {
            "perfRunConfig": {"loadCount": 3, "experimentIterations": 3, "predictionCount": 40},
            "predict": {"startTime": 700_000_000.5, "numOperations": 120, "samples": predictions},
            "load": {"samples": [0.9, 0.1, 0.11, 0.8, 0.1, 0.12, 0.85, 0.1, 0.1]},
            "compile": {"samples": [0.4]},
            "availableComputeDevices": [],
            "modelStructure": {"program": {"_0": {"functions": {"main": {"block": {"operations": main}}}}}},
        },
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(value, name="X.mlperf"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / "report.json").write_text(text)
        return folder

    return write


def test_warm_ups_are_told_apart(write):
    report = read(write(synthetic()))
    assert report.warmup_ns.tolist() == [30_000_000] * 3
    assert len(report.samples_ns) == 117
    assert report.samples_ns.max() <= 1_506_000
    assert [len(part) for part in report.experiments] == [39, 39, 39]
    assert np.concatenate(report.experiments).tolist() == report.samples_ns.tolist()


def test_cold_loads_are_told_apart(write):
    report = read(write(synthetic()))
    assert report.cold_load_ns.tolist() == [900_000_000, 800_000_000, 850_000_000]
    assert len(report.warm_load_ns) == 6
    assert report.compile_ns.tolist() == [400_000_000]


def test_facts_and_the_moment(write):
    report = read(write(synthetic()) / "report.json")
    assert (report.model, report.device_model, report.os) == (
        "nextvit_small",
        "iPhone 12 Pro Max",
        "iOS 16.4",
    )
    assert report.compute_unit == "all"
    assert report.started_at_ns == 1_678_307_200_500_000_000  # 2023-03-08


@pytest.mark.parametrize(
    ("number", "unit"), [(0, "cpuOnly"), (1, "cpuAndGPU"), (2, "all"), (3, "cpuAndNeuralEngine")]
)
def test_compute_units_are_numbers_in_the_report(write, number, unit):
    assert read(write(synthetic(number))).compute_unit == unit


def test_nothing_that_identifies_the_device_or_its_owner_is_read(write):
    told = repr(read(write(synthetic())))
    for secret in (*SECRETS, "somebody"):
        assert secret not in told


def test_operations_of_nested_blocks_with_their_place_and_cost(write):
    operations = read(write(synthetic())).operations
    assert [(op.name, op.operator, op.preferred, op.cost_ppb) for op in operations] == [
        ("w", "const", "unknown", -1),
        ("x_1", "ios16.conv", "neural_engine", 700_000_000),
        ("x_2", "cond", "cpu", 100_000_000),
        ("x_3", "ios16.relu", "gpu", 200_000_000),
    ]
    assert [(share.place, share.operations, share.cost_ppb) for share in shares(operations)] == [
        ("neural_engine", 1, 700_000_000),
        ("gpu", 1, 200_000_000),
        ("cpu", 1, 100_000_000),
    ]
    assert not left_neural_engine(operations, "all")
    assert left_neural_engine([op for op in operations if op.preferred != "neural_engine"], "all")
    assert not left_neural_engine([op for op in operations if op.preferred == "cpu"], "cpuOnly")


def changed(*path, value):
    report = copy.deepcopy(synthetic())
    table = report
    for name in path[:-1]:
        table = table[name]
    table[path[-1]] = value
    return report


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("{", "cut short"),
        ("[]", "no JSON object"),
        ("{}", "jsonVersion"),
        ('{"jsonVersion": NaN}', "no JSON"),
        (changed("computeUnit", value=7), "computeUnit is 7"),
        (changed("deviceResults", "predict", "numOperations", value=15), "numOperations is 15"),
        (changed("deviceResults", "perfRunConfig", "predictionCount", value=50), "cannot be told apart"),
        (changed("deviceResults", "perfRunConfig", "experimentIterations", value=0), "above 0"),
        (changed("deviceResults", "load", "samples", value=[0.1] * 4), "4 load samples"),
        (changed("deviceResults", "predict", "samples", value=["x"]), "no time"),
        (changed("deviceResults", "predict", "samples", value=[-1]), "no time"),
        (changed("deviceResults", "predict", "samples", value="x"), "samples are missing"),
        (changed("deviceInfo", value=[]), "deviceInfo is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_a_report_is_refused(write, report, words):
    with pytest.raises(XcodeReportError, match=words):
        read(write(report))


def test_a_cost_that_is_no_share_is_refused(write):
    report = synthetic()
    main = report["deviceResults"]["modelStructure"]["program"]["_0"]["functions"]["main"]
    main["block"]["operations"][1]["cost"]["weight"] = 1.5
    with pytest.raises(XcodeReportError, match="from 0 to 1"):
        read(write(report))


def test_a_folder_without_a_report_is_an_error(tmp_path):
    with pytest.raises(XcodeReportError, match="No such file"):
        read(tmp_path)
