"""Backends times precisions: what one backend has not and another has is left out, and said."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("backends", ["onnxruntime,openvino", "openvino,onnxruntime"])
def test_what_another_backend_runs_is_left_out_and_said(project, backends):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    command = ("--suite", "tiny", "--backend", backends, "--precision", "fp32,bf16,int8")
    cases = project.planned(*command[1:])
    found = {(case["case"]["backend"], case["case"]["precision"]) for case in cases}
    every = {
        (backend, precision) for backend in backends.split(",") for precision in ("fp32", "int8", "bf16")
    }
    assert found == every - {("onnxruntime", "bf16")}
    answer = project.bench(*command, "--dry-run")
    assert "left out: 'onnxruntime' does not run in bf16, which openvino does" in answer.err


def test_backends_of_different_devices_are_one_matrix_too(project):
    """A phone takes fp16 and a CPU does not; int8 is the CPU's."""
    pytest.importorskip("coremltools", reason="the coreml extra is not installed")
    command = ("--suite", "nets", "--model", "nextvit_small", "--backend", "onnxruntime,coreml")
    answer = project.bench(*command, "--precision", "fp16,int8", "--dry-run")
    assert answer.code == 0, answer.err
    assert "left out: 'onnxruntime' does not run in fp16, which coreml does" in answer.err


def test_what_no_backend_runs_is_refused(project):
    answer = project.bench("--suite", "tiny", "--backend", "onnxruntime,torch", "--precision", "fp32,bf16")
    assert answer.code == 2
    assert "does not run in bf16" in answer.err
