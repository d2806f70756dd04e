"""The accuracy chart in a real browser where some accuracies are published and some were measured here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from models.spec import Case, ModelSpec
from reports.html import write_report
from reports.records import PublishedFigure, PublishedLatency, PublishedPoint

pytestmark = pytest.mark.browser

PUBLISHED, MEASURED = "ImageNet-1K, as published", "pets, val (100 images)"
CHART = "document.getElementById('accuracy-chart')"


@pytest.fixture(scope="module")
def page(chromium, sample, evaluated, tmp_path_factory) -> Any:
    nets = [ModelSpec.of(name) for name in ("nextvit_small", "nextvit_base")]
    results = [
        sample.measured(Case(net, "onnxruntime"), 5.8 + place, 31.7, 90.0, seed=place, count=6)
        for place, net in enumerate(nets)
    ]
    evaluations = tuple(evaluated.evaluation(net, right=30 + 20 * place) for place, net in enumerate(nets))
    figures = [PublishedFigure(net.name, 224, "a paper", 82.5, (), "Next-ViT") for net in nets]
    latency = PublishedLatency(10.0, "TensorRT", "NVIDIA T4, fp16", "a figure", "±1 ms", 1.0)
    points = [PublishedPoint(net.name, "Next-ViT", 224, 82.5, latency, "", 31.7, net.name) for net in nets]
    run = dataclasses.replace(sample.run_of(results, suite="nets"), evaluations=evaluations)
    path = tmp_path_factory.mktemp("measured") / "nets.html"
    write_report(run, path, published=figures, points=points)
    made = chromium.new_page(viewport={"width": 1440, "height": 900})
    troubles: list[str] = []
    made.on("console", lambda message: troubles.append(message.text))
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.goto(path.as_uri())
    yield made
    made.close()
    assert troubles == []


def accuracies(page: Any) -> list[float]:
    return page.evaluate(f"[...{CHART}.data].filter((t) => t.mode.includes('markers')).flatMap((t) => t.y)")


def test_published_and_measured_are_chosen_and_never_drawn_together(page):
    title = f"{CHART}.layout.yaxis.title.text"
    assert page.evaluate(title) == "ImageNet-1K top-1 as published, %"
    assert accuracies(page) == [82.5, 82.5]
    page.select_option("#accuracy-controls select[data-setting=accuracy]", MEASURED)
    assert page.evaluate(title) == f"top-1 measured here, %<br>{MEASURED}"
    assert accuracies(page) == [30, 50]
    assert MEASURED in page.text_content("#accuracy-group")
    theirs = "document.getElementById('published-chart').layout.yaxis"
    assert page.evaluate(f"{theirs}.title.text") == "ImageNet-1K top-1 as published, %"
    ranges = page.evaluate(f"[{CHART}.layout.yaxis.range, {theirs}.range]")
    assert ranges[0][1] < 70 < ranges[1][0]
    page.select_option("#accuracy-controls select[data-setting=accuracy]", PUBLISHED)
    assert accuracies(page) == [82.5, 82.5]


def test_intervals_are_drawn_for_what_was_measured(page):
    bars = "document.querySelectorAll('#accuracy-chart .errorbars .yerror').length"
    assert page.evaluate(bars) == 0
    page.select_option("#accuracy-controls select[data-setting=accuracy]", MEASURED)
    page.wait_for_function(f"{bars} == 2")


def test_pointing_at_a_mark_says_on_which_images_it_was_measured(page):
    page.select_option("#accuracy-controls select[data-setting=accuracy]", MEASURED)
    page.locator("#accuracy-chart").scroll_into_view_if_needed()
    box = page.locator("#accuracy-chart .scatterlayer .trace .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#accuracy-chart .hoverlayer .hovertext")
    told = page.locator("#accuracy-chart .hoverlayer").text_content()
    for fact in ("30 of 100", "measured here on pets, val (100 images)", "evaluated: net.onnx"):
        assert fact in told


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_never_scrolls_sideways(page, fits, width):
    page.set_viewport_size({"width": width, "height": 900})
    fits(page, width)
