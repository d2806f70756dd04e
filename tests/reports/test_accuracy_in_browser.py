"""The accuracy charts in a real browser: every control does what it says, and nothing overflows."""

from __future__ import annotations

from typing import Any

import pytest

from models.spec import Case, ModelSpec
from reports.html import write_report
from reports.records import PublishedFigure, PublishedLatency, PublishedPoint

pytestmark = pytest.mark.browser

NETWORKS = {
    "nextvit_small": ("Next-ViT", 5.8, 31.7, {224: 82.5, 384: 83.6}),
    "nextvit_base": ("Next-ViT", 8.3, 44.8, {224: 83.2, 384: 84.3}),
    "timm/resnet50": ("ResNet", 4.1, 25.6, {224: 80.8}),
    "timm/resnet101": ("ResNet", 7.8, 44.6, {224: 81.9}),
    "timm/poolformer_s12": ("PoolFormer", 1.8, 11.9, {224: 77.2}),
}
POINTS = (
    "[...document.getElementById('{}').data].filter((t) => t.mode.includes('markers')).flatMap((t) => t.x)"
)


@pytest.fixture(scope="module")
def page(chromium, sample, tmp_path_factory) -> Any:
    results, figures, points = [], [], []
    for place, (name, (family, gmacs, params_m, accuracies)) in enumerate(NETWORKS.items()):
        for side, top1 in accuracies.items():
            for precision in ("fp32", "int8"):
                case = Case(ModelSpec.of(name, resolution=side), "onnxruntime", precision=precision)
                cost = gmacs * (side / 224) ** 2
                results.append(sample.measured(case, cost, params_m, 90.0, seed=place, count=3))
            figures.append(PublishedFigure(name, side, "a paper", top1, (), family))
            latency = PublishedLatency(10.0 + place, "TensorRT", "NVIDIA T4, fp16", "a figure", "±1 ms", 1.0)
            points.append(PublishedPoint(name, family, side, top1, latency, "ImageNet-1K", params_m, name))
    run = sample.run_of(results, suite="nets")
    path = tmp_path_factory.mktemp("accuracy") / "nets.html"
    write_report(run, path, published=figures, points=points)
    made = chromium.new_page(viewport={"width": 1440, "height": 900})
    troubles: list[str] = []
    made.on("console", lambda message: troubles.append(message.text))
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.goto(path.as_uri())
    assert made.locator(".js-plotly-plot").count() == 4
    yield made
    made.close()
    assert troubles == []


def drawn(page: Any, chart: str = "accuracy-chart") -> int:
    return len(page.evaluate(POINTS.format(chart)))


def test_both_charts_show_the_first_group_and_others_at_its_resolution(page):
    assert page.text_content("#accuracy-group") == "224x224, fp32"
    assert drawn(page) == 5
    assert drawn(page, "published-chart") == 5
    fills = page.evaluate(
        "['accuracy-chart', 'published-chart'].map((id) => document.getElementById(id).data[1].marker.color)"
    )
    assert fills[0] != "white"
    assert fills[1] == "white"
    ranges = page.evaluate(
        "['accuracy-chart', 'published-chart'].map((id) => document.getElementById(id).layout.yaxis.range)"
    )
    assert ranges[0] == ranges[1]


def test_a_resolution_is_chosen_and_the_published_figure_follows(page):
    page.select_option("#accuracy-controls select[data-setting=resolution]", "384x384")
    assert page.text_content("#accuracy-group") == "384x384, fp32"
    assert drawn(page) == drawn(page, "published-chart") == 2
    assert "384x384" in page.text_content("#published-about")
    page.select_option("#accuracy-controls select[data-setting=precision]", "int8")
    assert page.text_content("#accuracy-group") == "384x384, int8"
    page.select_option("#accuracy-controls select[data-setting=resolution]", "224x224")
    page.select_option("#accuracy-controls select[data-setting=precision]", "fp32")
    assert page.text_content("#accuracy-group") == "224x224, fp32"


def test_families_can_be_left_out_and_the_front_is_of_what_is_shown(page):
    front = "document.getElementById('accuracy-chart').data[0].y"
    whole = page.evaluate(front)
    page.locator("#accuracy-families label", has_text="Next-ViT").locator("input").uncheck()
    assert drawn(page) == drawn(page, "published-chart") == 3
    assert page.evaluate(front) != whole
    assert max(page.evaluate(front)) == 81.9
    page.click("[data-families=none]")
    assert drawn(page) == 0
    page.click("[data-families=all]")
    assert page.evaluate(front) == whole


def test_the_axis_is_log_or_linear(page):
    kind = "document.getElementById('{}').layout.xaxis.type"
    page.select_option("#accuracy-scale", "linear")
    assert {page.evaluate(kind.format(chart)) for chart in ("accuracy-chart", "published-chart")} == {
        "linear"
    }
    page.select_option("#accuracy-scale", "log")
    assert page.evaluate(kind.format("accuracy-chart")) == "log"


def test_pointing_at_others_says_that_it_was_not_measured_here(page):
    page.locator("#published-chart").scroll_into_view_if_needed()
    box = page.locator("#published-chart .scatterlayer .trace .point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#published-chart .hoverlayer .hovertext")
    told = page.locator("#published-chart .hoverlayer").text_content()
    for fact in ("not measured here", "NVIDIA T4, fp16", "read off a plot, ±1 ms", "source: a figure"):
        assert fact in told


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_never_scrolls_sideways(page, fits, width):
    page.set_viewport_size({"width": width, "height": 900})
    fits(page, width)
