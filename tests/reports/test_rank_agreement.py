"""Rank agreement: tau against known orders, ties, intervals that cover, and what the page says of it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy.stats import kendalltau

from models.spec import Case, ModelSpec
from reports import rank_view
from reports.html import render
from reports.rank_agreement import MIN_CASES_FOR_INTERVAL, agreements, interval
from reports.records import PublishedFigure, PublishedLatency
from reports.tables import build

T4 = "NVIDIA T4, TensorRT 8.0.3, fp16, batch 8"


def measured_in_order(sample, count: int = 12, gmacs=lambda place: 1.0 + place):
    """Networks n0, n1, ... of 10, 20, ... ms, told apart beyond any doubt."""
    results = []
    for place in range(count):
        case = Case(ModelSpec.of(f"n{place}"), "onnxruntime")
        rounds = sample.rounds_of(10e6 * (1 + place), seed=place)
        artifact = sample.make_artifact(case, gmacs(place), 20.0)
        results.append(sample.CaseResult(case, artifact, rounds, None, 5, rounds[-1].protocol.id))
    return sample.run_of(results, suite="networks")


def published(values, *, setup: str = T4, error_ms: float = 0.0) -> list[PublishedFigure]:
    return [
        PublishedFigure(
            f"n{place}", 224, "a table", 80.0,
            (PublishedLatency(ms, "TensorRT", setup, "a table", "±" * bool(error_ms), error_ms),),
        )
        for place, ms in enumerate(values)
    ]  # fmt: skip


def found(run, figures=()):
    (facet,) = build(run).facets
    return {one.predictor: one for one in agreements(facet, {(f.model, f.resolution): f for f in figures})}


def test_the_order_of_others_is_compared_with_ours(sample):
    values = [3, 1, 2, 4, 6, 5, 7, 9, 8, 10, 12, 11]
    one = found(measured_in_order(sample), published(values))["TensorRT, NVIDIA T4"]
    assert one.tau == pytest.approx(kendalltau(range(12), values).statistic)
    assert (one.cases, one.pairs, one.contrary, one.setup, one.published) == (12, 66, 5, T4, True)
    assert one.low < one.tau < one.high


def test_costs_are_judged_the_same_way(sample):
    every = found(measured_in_order(sample, gmacs=lambda place: 20.0 - place))
    assert every["GMACs"].tau == -1.0
    assert every["GMACs"].contrary == 66
    assert every["GMACs"].low is None
    assert every["parameters"].tau is None
    assert not every["GMACs"].published


def test_values_inside_their_reading_error_are_ties(sample):
    run = measured_in_order(sample, 4)
    exact = found(run, published([1.0, 1.1, 1.05, 9.0]))["TensorRT, NVIDIA T4"]
    read = found(run, published([1.0, 1.1, 1.05, 9.0], error_ms=0.1))["TensorRT, NVIDIA T4"]
    assert exact.contrary == 1
    assert read.contrary == 0
    assert read.tau == pytest.approx(3 / math.sqrt(3 * 6))


def test_two_cases_are_no_order_and_setups_are_never_mixed(sample):
    figures = published([1, 2]) + published([1, 2, 3, 4], setup="iPhone 12, iOS 16")[2:]
    assert set(found(measured_in_order(sample, 4), figures)) == {"GMACs", "parameters"}


@pytest.mark.parametrize(("tau", "cases"), [(0.5, MIN_CASES_FOR_INTERVAL - 1), (1.0, 40), (-1.0, 40)])
def test_no_interval_where_it_cannot_speak(tau, cases):
    assert interval(tau, cases) is None


@pytest.mark.parametrize("cases", [10, 25])
@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.85])
def test_the_interval_covers_the_truth(cases, correlation):
    """Normal pairs of a known correlation, whose tau is 2/pi arcsin of it; 1000 of them."""
    random = np.random.default_rng(cases)
    truth, hits = 2 / math.pi * math.asin(correlation), 0
    for _ in range(1000):
        x = random.normal(size=cases)
        y = correlation * x + math.sqrt(1 - correlation**2) * random.normal(size=cases)
        ends = interval(float(kendalltau(x, y).statistic), cases)
        hits += ends is not None and ends[0] <= truth <= ends[1]
    assert 0.93 <= hits / 1000 <= 0.99, hits


def test_the_panel_and_the_table_tell_the_same(sample):
    run = measured_in_order(sample)
    values = [3, 1, 2, 4, 6, 5, 7, 9, 8, 10, 12, 11]
    section = rank_view.section(build(run), published(values))
    (panel,) = section["rank_panels"]
    assert ET.fromstring(panel.svg).tag.endswith("svg")
    assert "TensorRT, NVIDIA T4 0.85 [0.62, 0.94], 12 cases" in panel.alt
    lines = [[cell.text for cell in line.cells] for line in section["rank_grid"].lines]
    assert lines[2][1:] == ["TensorRT, NVIDIA T4", "12", "0.85 [0.62, 0.94]", "5 of 66", T4]
    assert lines[1][3] == "–"


def test_setups_of_one_device_are_numbered_in_the_panel(sample):
    figures = [
        PublishedFigure(
            f"n{place}", 224, "s", None,
            tuple(PublishedLatency(1.0 + place, "Core ML", f"iPhone 12, {tool}", "s") for tool in ("a", "b")),
        )
        for place in range(4)
    ]  # fmt: skip
    (panel,) = rank_view.section(build(measured_in_order(sample, 4)), figures)["rank_panels"]
    assert "Core ML, iPhone 12 (1)" in panel.alt
    assert "Core ML, iPhone 12 (2)" in panel.alt


def test_a_page_of_two_cases_has_no_such_section(sample):
    assert 'id="rank"' not in render(measured_in_order(sample, 2))
    assert 'id="rank"' in render(measured_in_order(sample, 3))
