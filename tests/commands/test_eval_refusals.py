"""`eval`: what cannot be evaluated is one message, and nothing is kept of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from commands.eval_process import EvaluationError, Predictor
from tests.commands.coloured_squares import COLOURS, EACH, SIDE, colour_graph


def test_an_unreadable_image_is_skipped_and_counted(evaluate, tmp_path, images):
    many = tmp_path / "many"
    shutil.copytree(images, many)
    for name in COLOURS:
        for number in range(EACH, 40):
            shutil.copy(images / "val" / name / "5.png", many / "val" / name / f"{number}.png")
    (many / "val/red/39.png").write_bytes(b"no image")
    file = colour_graph(tmp_path / "colour.onnx")
    answer = evaluate(file, "--json", data=many)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["count"], found["images"]["skipped"], len(found["skipped"])) == (119, 1, 1)
    assert "red/39.png" in answer.err
    (many / "val/red/38.png").write_bytes(b"no image")
    answer = evaluate(file, data=many)
    assert answer.code == 2
    assert "2 of 120 images of val cannot be read" in answer.err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here refuses to be read")
def test_a_faulty_disk_ends_it_and_nothing_is_kept(evaluate, project, tmp_path, images):
    """The first bytes of /proc/self/mem are mapped nowhere: reading them is an error of input."""
    shutil.copytree(images, tmp_path / "copy")
    faulty = tmp_path / "copy/val/red/5.png"
    faulty.unlink()
    faulty.symlink_to("/proc/self/mem")
    answer = evaluate(colour_graph(tmp_path / "colour.onnx"), data=tmp_path / "copy")
    assert answer.code == 1
    assert answer.err == f"error: --data: {faulty}: Input/output error: see that its disk or share works\n"
    assert answer.out == ""
    assert stored(project) == 0


def stored(project) -> int:
    path = project.folder / "results/bench.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("SELECT count(*) FROM evaluations").fetchone()[0])


def refused(answer, project, *words: str) -> None:
    """Exit code 2, one message that says so, no traceback, nothing stored."""
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err
    assert stored(project) == 0


def test_folders_that_hold_no_such_images(evaluate, project, tmp_path, images):
    file = colour_graph(tmp_path / "colour.onnx")
    (tmp_path / "empty/val").mkdir(parents=True)
    (tmp_path / "strange/train/blue").mkdir(parents=True)
    (tmp_path / "strange/val/violet").mkdir(parents=True)
    refused(evaluate(file, data=tmp_path / "nowhere"), project, "nowhere: no such folder")
    refused(evaluate(file, data=tmp_path / "empty"), project, "holds no folder of a class")
    refused(evaluate(file, data=tmp_path / "strange"), project, "class 'violet' is not in")
    refused(evaluate(file, "--split", "test"), project, "unknown split 'test'")
    refused(evaluate(file, data="digits"), project, "3 outputs, digits has 10 classes")


def test_files_that_are_none(evaluate, project, tmp_path, converted_file):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07broken")
    (tmp_path / "net.tflite").write_bytes(b"x")
    (tmp_path / "net.pth").write_bytes(b"x")
    refused(evaluate(tmp_path / "gone.onnx"), project, "no file at")
    refused(evaluate(tmp_path / "broken.onnx"), project, "broken.onnx")
    refused(evaluate(tmp_path / "net.tflite"), project, "unknown extension; known are")
    refused(evaluate(tmp_path / "net.pth"), project, "say with --model which network")
    refused(
        evaluate(tmp_path / "net.pth", "--model", "timm/test_resnet", "--resolution", "32"),
        project,
        "net.pth",
    )
    file = converted_file
    refused(evaluate(file, "--model", "timm/resnet50"), project, "was converted from timm/test_resnet")
    refused(evaluate(file, "--checkpoint", file), project, "the artifact was made of random:0")
    refused(evaluate(file, "--batch-size", "3"), project, "takes batches of 4")
    refused(
        evaluate(file, "--backend", "trt"), project, "a file of kind onnx is run by onnxruntime, openvino"
    )
    refused(evaluate(file, "--crop", "7"), project, "--crop: '7' is not a share")


def test_a_converted_file_that_was_changed_is_refused(evaluate, project, tmp_path, converted_file):
    file = converted_file
    for path in (file, file.with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    damaged = tmp_path / file.name
    proto = onnx.load(damaged)
    proto.doc_string = "changed"
    onnx.save(proto, damaged)
    refused(evaluate(damaged), project, "it was changed or damaged")


def test_an_engine_without_its_gpu_is_built_and_not_evaluated(evaluate, project, tmp_path):
    engine = tmp_path / "net.engine"
    engine.write_bytes(b"ptrt" + bytes(100))
    answer = evaluate(engine, "--resolution", "224")
    if answer.code == 3:
        assert "is built, and cannot be evaluated here" in answer.err
        assert stored(project) == 0
    else:  # a GPU and its runtime are here, and refuse these bytes
        refused(answer, project, "net.engine")


JOB = {"backend": "onnxruntime", "dtype": "float32", "precision": "fp32", "threads": 1, "device": "cpu"}


def predictor(path: Path, *, deadline_seconds: float = 60.0) -> Predictor:
    job = {**JOB, "path": str(path), "shape": [4, 3, SIDE, SIDE], "options": {}}
    return Predictor(job, "colour", deadline_seconds=deadline_seconds)


def test_a_process_that_crashes_or_hangs_is_an_error(tmp_path):
    file = colour_graph(tmp_path / "colour.onnx")
    inputs = np.zeros((4, 3, SIDE, SIDE), np.float32)
    with predictor(file) as crashing, predictor(file) as hanging:
        for one in (crashing, hanging):
            assert one.tool().startswith("onnxruntime")
        os.kill(crashing.pid, signal.SIGSEGV)
        crashing.send(inputs)
        with pytest.raises(EvaluationError, match="was ended by signal 11") as caught:
            crashing.receive()
        assert caught.value.kind == "failed"
        os.kill(hanging.pid, signal.SIGSTOP)
        hanging.deadline_seconds = 0.05
        hanging.send(inputs)
        with pytest.raises(EvaluationError, match=r"no answer within 0\.05 s"):
            hanging.receive()
