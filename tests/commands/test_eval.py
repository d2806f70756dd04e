"""`eval`: files whose predictions are known, counted; what they agree with; and what cannot be evaluated."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from commands.eval_predictions import predicted_of, ranks_of
from commands.eval_process import EvaluationError, Predictor
from reports.store import Store

SIDE = 16
COLOURS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}
CHANNELS = {"blue": 2, "green": 1, "red": 0}
EACH, WRONG = 6, {"blue": 0, "green": 1, "red": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of one colour, six a class; one of the green ones and two of the red ones are blue."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    for split in ("train", "val"):
        for name in COLOURS:
            (folder / split / name).mkdir(parents=True)
            for number in range(EACH):
                colour = COLOURS["blue" if number < WRONG[name] else name]
                Image.new("RGB", (20, 24), colour).save(folder / split / name / f"{number}.png")
    return folder


def colour_graph(path: Path, *, batch: int | str = 4) -> Path:
    """The mean of each channel, in the order of the classes: its prediction is the colour."""
    weight = np.zeros((3, len(CHANNELS)), np.float32)
    for place, channel in enumerate(CHANNELS.values()):
        weight[channel, place] = 1
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        ],
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(CHANNELS)])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.fixture
def run(project, images):
    def evaluate(*argv: object, data: object = images):
        return project.bench("eval", *map(str, argv), "--data", str(data))

    return evaluate


def test_a_foreign_file_has_the_accuracy_that_was_built_into_it(run, project, tmp_path):
    table = tmp_path / "predictions.csv"
    answer = run(colour_graph(tmp_path / "colour.onnx"), "--json", "--csv", table)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["top1"]["hits"] == 15
    assert found["count"] == 18  # the last batch of four holds two
    assert found["top1"]["low"] == pytest.approx(0.6078, abs=1e-4)
    assert found["top1"]["high"] == pytest.approx(0.9416, abs=1e-4)
    assert found["top5"] is None
    assert found["agreement"] is None
    assert {name: share["hits"] for name, share in found["per_class"].items()} == {
        "blue": 6, "green": 5, "red": 4,
    }  # fmt: skip
    lines = table.read_text().splitlines()
    assert len(lines) == 19
    assert lines[0] == "image,label,predicted,rank,eager"
    assert [line.split(",")[1:3] for line in lines[7:9]] == [["green", "blue"], ["green", "green"]]
    with Store(project.folder / "results/bench.db", read_only=True) as store:
        (stored,) = store.evaluations()
    assert (stored.top1.hits, stored.images.name, stored.file.tool[:11]) == (15, "squares", "onnxruntime")
    assert stored.ranks.max() > 0


def test_the_terminal_tells_all_of_it(run, tmp_path):
    answer = run(colour_graph(tmp_path / "colour.onnx"))
    assert answer.code == 0, answer.err
    for words in ("83.33 % [60.8, 94.2], 15 of 18", "squares, val (18 images), 0 skipped", "red 66.7 %"):
        assert words in answer.out
    assert "after Wilson" in answer.out


def test_openvino_and_an_open_batch_give_the_same(run, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    file = colour_graph(tmp_path / "colour.onnx")
    answer = run(file, "--backend", "openvino", "--json")
    assert json.loads(answer.out)["top1"]["hits"] == 15, answer.err
    answer = run(colour_graph(tmp_path / "open.onnx", batch="N"), "--batch-size", "5", "--json")
    found = json.loads(answer.out)
    assert (found["top1"]["hits"], found["file"]["batch_size"]) == (15, 5)


@pytest.mark.slow
def test_a_core_ml_package_is_counted_by_its_program(run, tmp_path):
    import torch
    from torch import nn

    from tests.converters.mil_programs import converted

    class Colour(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean(dim=(2, 3))[:, [2, 1, 0]]

    package = converted(Colour().eval(), (2, 3, SIDE, SIDE), tmp_path / "colour.mlpackage")
    answer = run(package, "--json")
    found = json.loads(answer.out)
    assert (found["top1"]["hits"], found["file"]["precision"]) == (15, "fp16"), answer.err
    assert "not Apple's kernels" in found["file"]["tool"]


def converted_network(folder: Path, precision: str) -> Path:
    """timm's smallest network with three outputs and seeded weights, and the record of its conversion."""
    from bench import main

    (folder / "convert.toml").write_text("schema = 1\n[suites]\n")
    asked = ["convert", "timm/test_resnet", "--to", "onnx", "-o", str(folder), "--resolution", "32"]
    asked += ["--option", "num_classes=3", "--batch-size", "4", "--precision", precision]
    assert main([*asked, "--config", str(folder / "convert.toml")]) == 0
    (file,) = folder.glob("timm-*.onnx")
    return file


@pytest.fixture(scope="module")
def converted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_network(tmp_path_factory.mktemp("converted"), "fp32")


def test_a_converted_file_is_compared_with_its_eager_form(run, converted_file):
    answer = run(converted_file, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["file"]["model"]["name"] == "timm/test_resnet"
    assert found["file"]["key"]
    assert found["agreement"]["hits"] == found["agreement"]["count"] == 18
    assert found["differences"] == []
    assert found["images"]["transform"].startswith("bilinear, center crop")
    assert (found["lost"], found["gained"]) == (0, 0)


@pytest.mark.slow
def test_an_int8_file_gives_what_its_runtime_gives(run, images, tmp_path):
    """Counted again here, with ONNX Runtime as anybody calls it."""
    import onnxruntime

    from models.image_data import eval_transform, open_data, preprocessing

    file = converted_network(tmp_path, "int8")
    answer = run(file, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    data = open_data(images, "val")
    transform = eval_transform(preprocessing("timm/test_resnet", resolution=32))
    inputs = np.stack([transform(data.load(index)).numpy() for index in [*range(18), 17, 17]])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = np.concatenate([session.run(None, {name: inputs[at : at + 4]})[0] for at in range(0, 20, 4)])
    hits = int((outputs[:18].argmax(axis=1) == data.labels).sum())
    assert found["top1"]["hits"] == hits
    assert found["agreement"]["hits"] == 18 - len(found["differences"])


def test_a_report_has_the_accuracy_of_the_case_that_was_evaluated(project, images, tmp_path):
    """The suite measures a user's file; the accuracy of that file stands beside its latency."""
    file = colour_graph(tmp_path / "colour.onnx")
    text = (project.folder / "bench.toml").read_text()
    suite = '[suites.mine]\ndescription = "x"\n[[suites.mine.matrix]]\nmodels = ["timm/resnet50"]\n'
    (project.folder / "bench.toml").write_text(text + suite + "resolutions = [16]\nbatch_sizes = [4]\n")
    measured = project.bench("--suite", "mine", "--model", str(file))
    assert measured.code == 0, measured.err
    assert project.bench("eval", str(file), "--data", str(images)).code == 0
    answer = project.bench("report", "--json")
    found = json.loads(answer.out)
    (evaluation,) = found["evaluations"]
    assert len(evaluation["case_ids"]) == 1
    page = Path(found["report"]).read_text()
    assert "Accuracy measured here on squares, val (18 images) over latency" in page
    assert '<section id="evaluated">' in page
    exported = project.folder / "run.json"
    assert project.bench("export", "--format", "json", "-o", str(exported)).code == 0
    assert json.loads(exported.read_text())["evaluations"][0]["top1"]["hits"] == 15


def test_an_unreadable_image_is_skipped_and_counted(run, tmp_path, images):
    import shutil

    many = tmp_path / "many"
    shutil.copytree(images, many)
    for name in COLOURS:
        for number in range(EACH, 40):
            shutil.copy(images / "val" / name / "5.png", many / "val" / name / f"{number}.png")
    (many / "val/red/39.png").write_bytes(b"no image")
    file = colour_graph(tmp_path / "colour.onnx")
    answer = run(file, "--json", data=many)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["count"], found["images"]["skipped"], len(found["skipped"])) == (119, 1, 1)
    assert "red/39.png" in answer.err
    (many / "val/red/38.png").write_bytes(b"no image")
    answer = run(file, data=many)
    assert answer.code == 2
    assert "2 of 120 images of val cannot be read" in answer.err


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


def test_folders_that_hold_no_such_images(run, project, tmp_path, images):
    file = colour_graph(tmp_path / "colour.onnx")
    (tmp_path / "empty/val").mkdir(parents=True)
    (tmp_path / "strange/train/blue").mkdir(parents=True)
    (tmp_path / "strange/val/violet").mkdir(parents=True)
    refused(run(file, data=tmp_path / "nowhere"), project, "nowhere: no such folder")
    refused(run(file, data=tmp_path / "empty"), project, "holds no folder of a class")
    refused(run(file, data=tmp_path / "strange"), project, "class 'violet' is not in")
    refused(run(file, "--split", "test"), project, "unknown split 'test'")
    refused(run(file, data="digits"), project, "3 outputs, digits has 10 classes")


def test_files_that_are_none(run, project, tmp_path, converted_file):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07broken")
    (tmp_path / "net.tflite").write_bytes(b"x")
    (tmp_path / "net.pth").write_bytes(b"x")
    refused(run(tmp_path / "gone.onnx"), project, "no file at")
    refused(run(tmp_path / "broken.onnx"), project, "broken.onnx")
    refused(run(tmp_path / "net.tflite"), project, "unknown extension; known are")
    refused(run(tmp_path / "net.pth"), project, "say with --model which network")
    refused(
        run(tmp_path / "net.pth", "--model", "timm/test_resnet", "--resolution", "32"), project, "net.pth"
    )
    file = converted_file
    refused(run(file, "--model", "timm/resnet50"), project, "was converted from timm/test_resnet")
    refused(run(file, "--checkpoint", file), project, "the artifact was made of random:0")
    refused(run(file, "--batch-size", "3"), project, "takes batches of 4")
    refused(run(file, "--backend", "trt"), project, "a file of kind onnx is run by onnxruntime, openvino")
    refused(run(file, "--crop", "7"), project, "--crop: '7' is not a share")


def test_a_converted_file_that_was_changed_is_refused(run, project, tmp_path, converted_file):
    import shutil

    file = converted_file
    for path in (file, file.with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    damaged = tmp_path / file.name
    proto = onnx.load(damaged)
    proto.doc_string = "changed"
    onnx.save(proto, damaged)
    refused(run(damaged), project, "it was changed or damaged")


def test_an_engine_without_its_gpu_is_built_and_not_evaluated(run, project, tmp_path):
    engine = tmp_path / "net.engine"
    engine.write_bytes(b"ptrt" + bytes(100))
    answer = run(engine, "--resolution", "224")
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


def test_ranks_are_places_in_the_order_of_the_outputs():
    outputs = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [np.nan, 1.0, 2.0]], np.float32)
    labels = np.array([2, 1, 0, 2])
    assert ranks_of(outputs, labels).tolist() == [1, 1, 0, 3]
    assert predicted_of(outputs).tolist() == [1, 0, 0, -1]
    finite = np.random.default_rng(0).integers(0, 4, (200, 7)).astype(np.float32)  # full of ties
    right = np.random.default_rng(1).integers(0, 7, 200)
    order = np.argsort(-finite, axis=1, kind="stable")
    assert np.array_equal(ranks_of(finite, right), (order == right[:, None]).argmax(axis=1))
    assert np.array_equal(predicted_of(finite), order[:, 0])
