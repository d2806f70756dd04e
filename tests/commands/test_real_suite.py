"""A whole suite with real conversions on ONNX Runtime: small, and everything that happens to it."""

from __future__ import annotations

import json
import sqlite3

import pytest

REAL = """
schema = 1

[timing]
min_rounds = 2
max_rounds = 2
round_seconds = 0.05
warmup_seconds = 0.01
target = 0.5
max_seconds = 120

[suites.real]
description = "Two small blocks, and a network that cannot take its resolution"
focus = "block/ncb"

[[suites.real.matrix]]
models = ["block/ncb", "block/bottleneck"]
shapes = ["7x7x64"]
fused = [true, false]

[[suites.real.matrix]]
models = ["timm/swin_tiny_patch4_window7_224"]
resolutions = [225]
"""


@pytest.fixture
def real(project):
    project.config.write_text(REAL)
    return project


def rows(project, sql: str) -> list[tuple]:
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        return db.execute(sql).fetchall()


def test_a_real_suite(real, monkeypatch):
    first = real.bench("--suite", "real", "--json")
    value = json.loads(first.out)
    assert first.code == 1, first.err  # swin cannot take 225
    by_label = {case["label"]: case for case in value["cases"]}
    failed = by_label.pop("timm/swin_tiny_patch4_window7_224 225 fp32 onnxruntime")
    assert failed["failure"]["kind"] == "conversion"
    assert "225" in failed["failure"]["message"]

    assert len(by_label) == 4
    for label, case in by_label.items():
        assert case["failure"] is None, label
        assert case["summary"]["median_ns"] > 0
        steps = [step["name"] for step in case["artifact"]["steps"]]
        assert steps == ["fused"] * ("unfused" not in label) + ["exported", "simplified"]
        assert all(step["parity"]["max_relative"] < 1e-4 for step in case["artifact"]["steps"])
    assert by_label["block/ncb 7x7x64 fp32 onnxruntime"]["artifact"]["batchnorms_left"] == 0

    _a_damaged_artifact_is_made_again(real)
    _a_device_that_is_gone_spoils_nothing(real, monkeypatch)


def _a_damaged_artifact_is_made_again(real) -> None:
    damaged = sorted((real.folder / "artifacts").glob("*/model.onnx"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    answer = real.bench("--suite", "real", "--model", "block/ncb,block/bottleneck", "--fresh")
    assert answer.code == 0, answer.err
    assert "is damaged" in answer.err
    assert list((real.folder / "artifacts/corrupt").iterdir())


def _a_device_that_is_gone_spoils_nothing(real, monkeypatch) -> None:
    """A finished run is shown as it is stored; what cannot be measured again today changes no result."""
    from commands import devices

    before = rows(real, "SELECT count(*) FROM records")
    monkeypatch.setattr(devices, "availability", lambda backend, device: "the driver is gone")
    answer = real.bench("--suite", "real", "--model", "block/ncb,block/bottleneck")
    assert answer.code == 0, answer.err
    assert rows(real, "SELECT count(*) FROM records") == before

    fresh = real.bench("--suite", "real", "--model", "block/ncb", "--fresh")
    assert fresh.code == 3
    assert "the driver is gone" in fresh.out
