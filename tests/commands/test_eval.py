"""`eval`: files whose predictions are known, counted; what they agree with; and what a report has of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands.eval_predictions import predicted_of, ranks_of
from reports.store import Store
from tests.commands.coloured_squares import colour_graph, converted_network


def test_a_foreign_file_has_the_accuracy_that_was_built_into_it(evaluate, project, tmp_path):
    table = tmp_path / "predictions.csv"
    answer = evaluate(colour_graph(tmp_path / "colour.onnx"), "--json", "--csv", table)
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
    assert stored.file.backend == found["file"]["backend"] == "onnxruntime"
    assert stored.ranks.max() > 0


def test_the_terminal_tells_all_of_it(evaluate, tmp_path):
    answer = evaluate(colour_graph(tmp_path / "colour.onnx"))
    assert answer.code == 0, answer.err
    for words in ("83.33 % [60.8, 94.2], 15 of 18", "squares, val (18 images), 0 skipped", "red 66.7 %"):
        assert words in answer.out
    assert "after Wilson" in answer.out


def test_openvino_and_an_open_batch_give_the_same(evaluate, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    file = colour_graph(tmp_path / "colour.onnx")
    answer = evaluate(file, "--backend", "openvino", "--json")
    found = json.loads(answer.out)
    assert (found["top1"]["hits"], found["file"]["backend"]) == (15, "openvino"), answer.err
    answer = evaluate(colour_graph(tmp_path / "open.onnx", batch="N"), "--batch-size", "5", "--json")
    found = json.loads(answer.out)
    assert (found["top1"]["hits"], found["file"]["batch_size"]) == (15, 5)


def test_a_converted_file_is_compared_with_its_eager_form(evaluate, converted_file):
    answer = evaluate(converted_file, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["file"]["model"]["name"] == "timm/test_resnet"
    assert found["file"]["key"]
    assert found["agreement"]["hits"] == found["agreement"]["count"] == 18
    assert found["differences"] == []
    assert found["images"]["transform"].startswith("bilinear, center crop")
    assert (found["lost"], found["gained"]) == (0, 0)


@pytest.mark.slow
def test_an_int8_file_gives_what_its_runtime_gives(evaluate, images, tmp_path):
    """Counted again here, with ONNX Runtime as anybody calls it."""
    import onnxruntime

    from models.image_data import eval_transform, open_data, preprocessing

    file = converted_network(tmp_path, "int8")
    answer = evaluate(file, "--json")
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
    assert "squares, val (18 images)" in page
    charted = "Accuracy measured here on squares, val (18 images) over latency" in page
    # what other work on the machine disturbed beyond use is in no chart
    assert charted != ("every measured case is flagged" in page)
    assert '<section id="evaluated">' in page
    exported = project.folder / "run.json"
    assert project.bench("export", "--format", "json", "-o", str(exported)).code == 0
    assert json.loads(exported.read_text())["evaluations"][0]["top1"]["hits"] == 15


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
