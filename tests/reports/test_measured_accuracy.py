"""Measured accuracies in a report: which case has which, and that they share no axis with published ones."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from models.spec import Case, ModelSpec
from reports import accuracy_chart, measured_accuracy
from reports.accuracy import AXIS
from reports.console import PlainConsole
from reports.export import case_frame, document
from reports.html import render
from reports.records import PublishedFigure, StoredRun
from reports.tables import build
from reports.terminal import print_table

SMALL, BASE = ModelSpec.of("nextvit_small"), ModelSpec.of("nextvit_base")
DIGITS = {"data": "digits", "images": "d" * 64, "count": 360}


@pytest.fixture(scope="module")
def run(sample, evaluated) -> StoredRun:
    """Two networks in fp32, the small one evaluated on two sets of images, one int8 file of other weights."""
    results = [
        sample.measured(Case(model, "onnxruntime"), 5.8 + place, 31.7, 90.0, seed=place, count=6)
        for place, model in enumerate((SMALL, BASE))
    ]
    trained = dataclasses.replace(SMALL, weights="sha256:" + "e" * 64)
    evaluations = (
        evaluated.evaluation(SMALL, right=70, eager_right=71, skipped=1),
        evaluated.evaluation(BASE, right=80),
        evaluated.evaluation(SMALL, right=350, **DIGITS),
        evaluated.evaluation(trained, right=60, precision="int8"),
    )
    return dataclasses.replace(sample.run_of(results, suite="nets"), evaluations=evaluations)


@pytest.fixture(scope="module")
def figures():
    return [PublishedFigure(name, 224, "a paper", 82.5, (), "Next-ViT") for name in (SMALL.name, BASE.name)]


def result(sample, case: Case):
    return sample.measured(case, 5.8, 31.7, 90.0, seed=1, count=3)


def test_an_evaluation_speaks_for_the_same_file_or_the_same_network_and_weights(sample, evaluated):
    of = measured_accuracy.is_of
    case = result(sample, Case(SMALL, "onnxruntime"))
    assert case.artifact is not None
    assert of(evaluated.evaluation(SMALL), case)
    assert of(evaluated.evaluation(SMALL, kind="checkpoint"), case)
    assert of(evaluated.evaluation(None, key=case.artifact.key), case)
    for other in (
        dataclasses.replace(SMALL, weights="sha256:" + "e" * 64),
        dataclasses.replace(SMALL, resolution=384),
        BASE,
        None,
    ):
        assert not of(evaluated.evaluation(other), case)
    assert not of(evaluated.evaluation(SMALL, precision="int8"), case)
    assert not of(evaluated.evaluation(None, key=case.artifact.key, precision="int8"), case)


def test_a_quantized_file_speaks_for_itself_alone(sample, evaluated):
    case = result(sample, Case(SMALL, "onnxruntime", precision="int8"))
    assert not measured_accuracy.is_of(evaluated.evaluation(SMALL, precision="int8"), case)
    own = evaluated.evaluation(SMALL, precision="int8", key=case.artifact.key)
    assert measured_accuracy.is_of(own, case)


def test_what_a_runtime_lowers_by_itself_has_no_evaluation(sample, evaluated):
    """OpenVINO in bf16 runs the fp32 file: neither that file's accuracy nor a bf16 file's is the case's."""
    case = result(sample, Case(SMALL, "openvino", precision="bf16"))
    lowered = dataclasses.replace(case, artifact=dataclasses.replace(case.artifact, precision="fp32"))
    key = case.artifact.key
    for one in (
        evaluated.evaluation(SMALL, key=key),
        evaluated.evaluation(SMALL, key=key, precision="bf16"),
        evaluated.evaluation(SMALL, precision="bf16"),
        evaluated.evaluation(SMALL, kind="checkpoint"),
    ):
        assert not measured_accuracy.is_of(one, lowered)
    bf16_file = evaluated.evaluation(SMALL, precision="bf16", backend="openvino")
    assert measured_accuracy.is_of(bf16_file, case)


def test_a_case_of_a_users_file_has_that_files_accuracy(sample, evaluated):
    spec = ModelSpec("mine.onnx", 224, (), "sha256:" + "c" * 64)
    case = result(sample, Case(spec, "onnxruntime", precision="int8"))
    mine = evaluated.evaluation(None, sha256="c" * 64, precision="int8")
    assert measured_accuracy.is_of(mine, case)
    assert not measured_accuracy.is_of(dataclasses.replace(mine, file=dataclasses.replace(
        mine.file, sha256="b" * 64)), case)  # fmt: skip
    assert not measured_accuracy.is_of(mine, result(sample, Case(spec, "openvino", precision="int8")))


TOOLS = {"onnxruntime": "onnxruntime 1.31.1 CPUExecutionProvider", "openvino": "openvino 2026.3.0-1"}


@pytest.mark.parametrize("kept", [True, False], ids=["backend kept", "told by the tool"])
def test_a_file_that_two_runtimes_share_has_an_accuracy_for_each(sample, evaluated, kept):
    """One int8 file, one key: what a runtime makes of it is its own. In fp32 both compute the same."""
    shared = result(sample, Case(SMALL, "onnxruntime", precision="int8"))
    cases = {name: dataclasses.replace(shared.case, backend=name) for name in TOOLS}
    results = {name: dataclasses.replace(shared, case=case) for name, case in cases.items()}
    found = {
        name: evaluated.evaluation(
            None, right=right, key=shared.artifact.key, precision="int8", sha256="f" * 64, tool=TOOLS[name],
            backend=name if kept else "",
        )
        for name, right in (("onnxruntime", 90), ("openvino", 80))
    }  # fmt: skip
    every = list(found.values())
    assert measured_accuracy.newest(every) == every
    for name in TOOLS:
        assert measured_accuracy.of_case(results[name], every) == [found[name]]
    for name in TOOLS:
        fp32 = result(sample, Case(SMALL, name))
        both = [
            evaluated.evaluation(SMALL, tool=tool, backend=other if kept else "")
            for other, tool in TOOLS.items()
        ]
        assert all(measured_accuracy.is_of(one, fp32) for one in both)


@pytest.mark.parametrize(
    ("tool", "backend"),
    [
        ("a tool of another kind 1.0", ""),
        ("onnxruntime 1.31.1, every value rounded as the file's types say", ""),
        ("onnxruntime 1.31.1, every value rounded as the file's types say", "rounding"),
    ],
)
def test_what_ran_otherwise_or_is_not_known_speaks_for_fp32_alone(sample, evaluated, tool, backend):
    for precision, speaks in (("fp32", True), ("int8", False)):
        case = result(sample, Case(SMALL, "onnxruntime", precision=precision))
        one = evaluated.evaluation(
            SMALL, key=case.artifact.key, precision=precision, tool=tool, backend=backend
        )
        assert measured_accuracy.is_of(one, case) == speaks


@pytest.mark.parametrize("backend", ["", "interpreter"])
def test_the_interpreter_speaks_for_core_ml_packages_alone(sample, evaluated, backend):
    tool = "interpreter of Core ML programs, not Apple's kernels"
    for name, speaks in (("coreml", True), ("onnxruntime", False)):
        case = result(sample, Case(SMALL, name, precision="fp16"))
        one = evaluated.evaluation(SMALL, key=case.artifact.key, precision="fp16", tool=tool, backend=backend)
        assert measured_accuracy.is_of(one, case) == speaks


def test_the_newest_evaluation_of_a_file_counts(evaluated):
    first, second = (evaluated.evaluation(SMALL, right=right, sha256="f" * 64) for right in (10, 20))
    assert measured_accuracy.newest([first, second]) == [second]


def test_every_set_of_images_has_an_axis_of_its_own(run, figures):
    chart = accuracy_chart.chart(build(run), figures, (), run.evaluations)
    assert [len(group["points"]) for group in chart["groups"]] == [2, 2, 1]
    axes = [group["axis"] for group in chart["groups"]]
    assert axes[0] == AXIS
    assert axes[1:] == [
        "top-1 measured here, %<br>pets, val (100 images)",
        "top-1 measured here, %<br>digits, val (360 images)",
    ]
    assert [group["measured"] for group in chart["groups"]] == [False, True, True]
    assert chart["settings"][0]["name"] == "accuracy"
    assert chart["settings"][0]["values"] == [
        "ImageNet-1K, as published", "pets, val (100 images)", "digits, val (360 images)",
    ]  # fmt: skip
    published, measured = chart["groups"][0]["points"][0], chart["groups"][1]["points"][0]
    assert published["top1_low"] == published["top1"] == published["top1_high"] == 82.5
    assert measured["top1_low"] < measured["top1"] == 70.0 < measured["top1_high"]
    assert "measured here on pets, val (100 images), 1 skipped" in measured["text"]
    assert "published" not in measured["text"]
    json.dumps(chart, allow_nan=False)


def test_images_of_one_name_but_other_content_are_told_apart(evaluated):
    some = [evaluated.evaluation(SMALL, images=digest * 64) for digest in "ab"]
    assert set(measured_accuracy.titled(some).values()) == {
        "pets, val (100 images) aaaaaa", "pets, val (100 images) bbbbbb",
    }  # fmt: skip


def test_the_report_has_a_section_with_every_evaluated_file(run, figures):
    page = render(run, published=figures)
    section = page[page.index('<section id="evaluated">') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2
    assert section.count("Both measured here: ") == 4  # title and the button's label, of two figures
    for words in ("70.00 [60.4, 78.1]", "1 / 0", "digits", "no axis of this run", "onnxruntime 1.31.1"):
        assert words in section
    assert "Accuracy measured here on pets, val (100 images) over latency measured here" in section
    assert AXIS not in section
    assert '<a href="#evaluated">Evaluated</a>' in page


def test_without_published_figures_the_chart_is_there_and_names_the_images(run):
    page = render(run)
    section = page[page.index('<section id="accuracy">') :]
    section = section[: section.index("</section>")]
    assert "pets, val (100 images); digits, val (360 images)" in section
    assert "published for ImageNet-1K" not in section
    assert "Every published figure" not in section


def test_a_run_without_evaluations_has_neither(networks_run):
    page = render(networks_run)
    assert 'id="evaluated"' not in page
    assert 'id="accuracy"' not in page


def test_names_of_others_stay_text(sample, evaluated):
    nasty = "<img src=x onerror=alert(1)></script>$\\frac$"
    case = result(sample, Case(SMALL, "onnxruntime"))
    run = dataclasses.replace(
        sample.run_of([case], suite="nets"), evaluations=(evaluated.evaluation(SMALL, data=nasty),)
    )
    page = render(run)
    assert nasty not in page
    assert not re.search(r"<img src=x", page)


def test_the_terminal_tells_accuracy_agreement_and_data(run, capsys):
    print_table(run, PlainConsole(width=120))
    shown = capsys.readouterr().out
    assert "Accuracy measured here, 95 % intervals" in shown
    assert "top-1 70.00 % [60.4, 78.1], 70 of 100" in shown
    assert "agreement with eager 99.00 % [94.6, 99.8], 99 of 100; 1 lost and 0 gained" in shown
    assert "on pets, val (100 images), 1 skipped; 1 case" in shown
    assert "no case of this run" in shown


def test_exports_have_the_accuracies_of_each_case(run):
    frame = case_frame(run)
    told = [json.loads(text) for text in frame["accuracy"]]
    assert [[one["data"] for one in some] for some in told] == [
        ["pets, val (100 images)", "digits, val (360 images)"], ["pets, val (100 images)"],
    ]  # fmt: skip
    assert told[0][0]["top1"]["hits"] == 70
    evaluations = document(run)["evaluations"]
    assert [len(one["case_ids"]) for one in evaluations] == [1, 1, 1, 0]
    assert evaluations[0]["agreement"]["hits"] == 99
