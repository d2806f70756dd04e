"""Accuracy over latency: who is on the axis and who is only named, hollow and solid, fronts and families."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest

from models.spec import Case, ModelSpec
from reports import accuracy, accuracy_chart, accuracy_plots
from reports.html import render
from reports.records import PublishedFigure, PublishedLatency, PublishedPoint
from reports.tables import build

T4 = "NVIDIA T4, TensorRT 8.0.3, fp16, batch 8"
FAMILIES = {"nextvit_small": "Next-ViT", "nextvit_base": "Next-ViT", "timm/resnet50": "ResNet"}
TOP1 = {"nextvit_small": 82.5, "nextvit_base": 83.2, "timm/resnet50": 80.8}


@pytest.fixture(scope="module")
def figures():
    return [PublishedFigure(name, 224, "a paper", TOP1[name], (), FAMILIES[name]) for name in TOP1]


def point(network: str, family: str, ms: float, top1: float, **changes) -> PublishedPoint:
    latency = PublishedLatency(ms, "TensorRT", changes.pop("setup", T4), "a figure", "±0.1 ms", 0.1)
    return PublishedPoint(network, family, 224, top1, latency, "ImageNet-1K", **changes)


@pytest.fixture(scope="module")
def points():
    return [
        point("Next-ViT-S", "Next-ViT", 7.7, 82.5, params_m=31.7, model="nextvit_small"),
        point("Next-ViT-B", "Next-ViT", 10.5, 83.2, params_m=44.8, model="nextvit_base"),
        point("CMT-S", "CMT", 51.9, 83.5),
        point("CMT-XS", "CMT", 22.0, 81.8),
    ]


def by_key(figures):
    return {(figure.model, figure.resolution): figure for figure in figures}


def test_the_frontier_holds_what_nothing_beats():
    assert accuracy.frontier([1.0, 2.0, 3.0, 1.0], [70.0, 69.0, 80.0, 75.0]) == [3, 2]


def test_only_networks_of_known_accuracy_are_on_the_axis_and_the_others_are_named(networks_run, figures):
    table = build(networks_run)
    found = accuracy.networks(table, by_key(figures))
    assert [facet.title for facet, _ in found] == ["224x224, onnxruntime", "224x224, openvino"]
    assert all({n.row.case.model.name for n in some} == set(TOP1) for _, some in found)
    unknown = accuracy.unknown(table, by_key(figures))
    assert set(unknown) == {224}
    assert "convnext_tiny" in unknown[224]
    assert not {"nextvit_small", "nextvit_base"} & set(unknown[224])
    page = render(networks_run, published=figures)
    told = re.search(r"no ImageNet-1K top-1 at that resolution is known of them: at 224x224 ([^<]*)\.<", page)
    assert told is not None
    assert "convnext_tiny" in told[1]


def test_an_accuracy_at_another_resolution_is_none(networks_run, figures):
    elsewhere = [dataclasses.replace(figure, resolution=384) for figure in figures]
    assert accuracy.networks(build(networks_run), by_key(elsewhere)) == []
    assert accuracy_chart.chart(build(networks_run), elsewhere, ()) is None


def test_a_result_in_doubt_is_named_and_not_drawn(networks_run, figures):
    doubted = PublishedFigure("timm/efficientformer_l1", 224, "a paper", 79.2, (), "EfficientFormer")
    table = build(networks_run)
    found = accuracy.networks(table, by_key([*figures, doubted]))
    assert [len(some) for _, some in found] == [3, 4]  # its parity failed on the first backend
    assert accuracy.in_doubt(table, by_key([doubted])) == ["efficientformer_l1 (224x224, onnxruntime)"]
    page = render(networks_run, published=[*figures, doubted])
    assert "On no axis, as their latency is in doubt: efficientformer_l1 (224x224, onnxruntime)." in page


def test_ours_are_solid_and_others_hollow_on_axes_that_say_so(networks_run, figures, points):
    found = accuracy.networks(build(networks_run), by_key(figures))
    styles = accuracy.styles([n for _, some in found for n in some], points)
    ours = accuracy_plots.measured_panel(*found[0], (1e6, "ms"), styles, "ours")
    theirs = accuracy_plots.published_panel(points, styles, "theirs")
    for drawing in (ours, theirs):
        assert ET.fromstring(drawing.svg).tag.endswith("svg")
        assert accuracy.AXIS in drawing.svg
    assert "median latency measured here, ms" in ours.svg
    assert "latency as published, ms" in theirs.svg
    assert ours.title.startswith("Measured here")
    assert theirs.title == f"Published, not measured here: {T4}"
    assert "4 of them read off a plot, with the reading error. Source: a figure" in theirs.caption
    color = styles["Next-ViT"].color.lower()
    assert re.search(rf"fill: {color}; stroke: {color}", ours.svg)
    assert re.search(rf"fill: #ffffff; stroke: {color}", theirs.svg)
    assert not re.search(rf"fill: {color}; stroke: {color}", theirs.svg)


def test_a_family_looks_the_same_everywhere_and_those_of_others_alone_are_grey(networks_run, figures, points):
    found = accuracy.networks(build(networks_run), by_key(figures))
    styles = accuracy.styles([n for _, some in found for n in some], points)
    assert list(styles) == ["Next-ViT", "ResNet", "CMT"]
    assert len({style.color for style in styles.values()}) == 3
    assert styles["CMT"].color == accuracy.PALE
    many = accuracy.styles([], [point(f"{i}", f"family {i}", 1.0, 80.0) for i in range(40)])
    assert len({(style.color, style.marker) for style in many.values()}) >= 8


def test_the_chart_holds_every_network_with_all_facts(networks_run, figures, points):
    chart = accuracy_chart.chart(build(networks_run), figures, points)
    assert [setting["name"] for setting in chart["settings"]] == ["backend"]
    assert chart["settings"][0]["values"] == ["onnxruntime", "openvino"]
    assert [len(group["points"]) for group in chart["groups"]] == [3, 3]
    ours = chart["groups"][0]["points"][0]
    assert ours["low"] < ours["x"] < ours["high"]
    for fact in ("measured here:", "top-1", "published: a paper", "family", "GMACs", "rank", "rounds"):
        assert fact in ours["text"]
    (setup,) = chart["setups"]
    assert setup["name"] == f"{T4}, 224x224"
    theirs = setup["points"][0]
    for fact in ("not measured here", "read off a plot, ±0.1 ms", f"TensorRT: {T4}", "source: a figure"):
        assert fact in theirs["text"]
    assert "measured in this run as nextvit_small" in theirs["text"]
    json.dumps(chart, allow_nan=False)


def test_groups_that_only_their_protocol_tells_apart_are_chosen_by_title(sample, figures):
    runs = []
    for backend in ("onnxruntime", "openvino"):
        case = Case(ModelSpec.of("nextvit_small"), "torch", threads=1)
        one = sample.measured(case, 5.8, 31.7, 90.0, seed=1)
        rounds = tuple(dataclasses.replace(r, protocol=sample.protocol(backend)) for r in one.rounds)
        other = Case(ModelSpec.of("nextvit_base" if runs else "nextvit_small"), "torch")
        runs.append(
            dataclasses.replace(one, case=other, rounds=rounds, last_protocol_id=rounds[0].protocol.id)
        )
    chart = accuracy_chart.chart(build(sample.run_of(runs, suite="nets")), figures, ())
    (setting,) = chart["settings"]
    assert setting["name"] == "group"
    assert len(set(setting["values"])) == 2


def test_text_of_others_stays_text(networks_run, figures, points):
    nasty = "<img src=x onerror=alert(1)></script>"
    bad = [dataclasses.replace(points[0], network=nasty, family=nasty), *points[1:]]
    page = render(networks_run, published=figures, points=bad)
    assert nasty not in page
    chart = accuracy_chart.chart(build(networks_run), figures, bad)
    assert "&lt;img" in chart["setups"][0]["points"][0]["text"]


def test_other_tasks_of_the_same_networks_are_drawn_apart(networks_run, figures, points):
    metric = "box AP"
    tasks = [
        dataclasses.replace(p, resolution=0, top1=p.top1 - 40, metric=metric, model=p.model) for p in points
    ]
    page = render(networks_run, published=figures, points=[*points, *tasks])
    section = page[page.index("The same networks as backbones") : page.index('<section id="samples">')]
    assert section.count("<svg") == 1
    assert "box AP, marks grow" in section
    assert "42.5 %" not in section
    chart = accuracy_chart.chart(build(networks_run), figures, points)
    assert len(chart["setups"]) == 1
    assert "as backbones" not in render(networks_run, published=figures, points=points)
    nobodys = [dataclasses.replace(p, model="") for p in tasks]
    assert "as backbones" not in render(networks_run, published=figures, points=[*points, *nobodys])


def test_without_javascript_the_drawings_and_the_figures_are_there(networks_run, figures, points):
    page = render(networks_run, published=figures, points=points)
    section = page[page.index('<section id="accuracy">') : page.index('<section id="samples">')]
    kinds = re.findall(r'class="panel-title">(Measured here|Published, not measured here): ', section)
    assert kinds == ["Measured here", "Published, not measured here", "Measured here"]
    assert section.count("<svg") == 3
    assert f"Published, not measured here: {T4}" in section
    assert "<details open>" in section
    assert section.count("<tr>") == 4
