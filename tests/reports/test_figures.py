from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from models.spec import Case, ModelSpec
from reports import figures, findings, savings_figure, scatter
from reports.savings import fusion_savings
from reports.tables import build, fused_facets
from reports.thinning import share, thinned

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def table(blocks_run):
    return build(blocks_run)


@pytest.fixture(scope="module")
def drawings(table):
    facets = fused_facets(table)
    found = {(f.title, c): findings.cost_agreement(f, c) for f in facets for c in ("gmacs", "params_m")}
    return [
        *figures.latency_panels(facets, table.unit),
        *figures.rate_panels(facets),
        *scatter.cost_panels(facets, found, table.unit),
        *savings_figure.panels([fusion_savings(table)], "fusion"),
        *figures.sample_panels(table.facets),
        figures.ledger_panel([("conversion", 5_000_000_000), ("timed work", 3_000_000_000)]),
    ]


def texts(drawing) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(drawing.svg).iter(f"{SVG}text"))


def test_every_figure_is_well_formed_with_text_as_text(drawings):
    assert len(drawings) == 4 + 4 + 8 + 1 + 5 + 1
    for drawing in drawings:
        root = ET.fromstring(drawing.svg)
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox")
        assert len(list(root.iter(f"{SVG}text"))) > 5


def test_print_keeps_every_letter_legible(drawings):
    """SVG units are points: nothing smaller than 8."""
    for drawing in drawings:
        sizes = {float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", drawing.svg)}
        assert sizes
        assert min(sizes) >= 8.0


def test_ids_do_not_collide_in_one_page(drawings):
    ids = [i for drawing in drawings for i in re.findall(r'\bid="([^"]+)"', drawing.svg)]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        known = set(re.findall(r'\bid="([^"]+)"', drawing.svg))
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', drawing.svg)) <= known


def test_figures_say_nothing_twice(drawings):
    """A page of a thousand cases holds tens of thousands of these elements."""
    for drawing in drawings:
        assert drawing.svg.count("font-family") == 1
        assert "rotate(-0" not in drawing.svg
        assert "<g>" not in drawing.svg
        assert not re.search(r"<[^>]*\d\.\d{3}", drawing.svg)
        ids = re.findall(r'\bid="([^"]+)"', drawing.svg)
        assert set(ids) == set(re.findall(r'(?:href="|url\()#([^")]+)', drawing.svg))


def test_digits_that_are_read_are_all_there(table, drawings):
    """Coordinates are rounded, text is not."""
    panel = next(drawing for drawing in drawings if drawing.name == "fusion")
    ratios = [saving.ratio_text for saving in fusion_savings(table)]
    assert any(re.search(r"\d\.\d{3}", ratio) for ratio in ratios)
    assert all(ratio in texts(panel) for ratio in ratios)


def test_a_page_knows_the_place_of_a_figure_out_of_sight(drawings):
    for drawing in drawings:
        width, height = (float(side) for side in drawing.aspect.split(" / "))
        assert 300 < width < 330
        assert height > 60


def test_figures_hold_no_date_and_come_out_equal(table, drawings):
    again = figures.latency_panels(fused_facets(table), table.unit)
    assert [d.svg for d in again] == [d.svg for d in drawings[:4]]
    assert "<metadata" not in drawings[0].svg
    assert "Created with" not in drawings[0].svg


def test_latency_panels_hold_every_case_and_its_interval(table, drawings):
    for facet, drawing in zip(fused_facets(table), drawings[:4], strict=True):
        found = texts(drawing)
        for row in facet.rows:
            assert row.label in found
        assert found.count("±") == len(facet.rows)
        assert "median latency, ms" in found


def test_a_user_s_matplotlib_settings_change_nothing(table, drawings):
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        again = figures.latency_panels(fused_facets(table), table.unit)
    assert again[0].svg == drawings[0].svg


def test_pyplot_is_never_loaded(drawings):
    import subprocess
    import sys

    code = "import sys, reports.figures, reports.scatter; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_samples_beyond_the_axis_are_counted(table):
    facet = next(f for f in table.facets if f.title == "28x28x192")
    (drawing,) = figures.sample_panels([facet])
    assert "IQR 18 % (+12)" in texts(drawing)


def test_groups_of_very_different_latency_get_their_own_axes(sample):
    def run(rates):
        results = [
            sample.measured(sample.block_case(f"block/{n}", side, 384), 0.2, 1.0, rate, seed=1)
            for (n, side), rate in rates.items()
        ]
        return build(sample.run_of(results))

    near = run({("ncb", 14): 100.0, ("ncb", 7): 200.0})
    far = run({("ncb", 14): 100.0, ("ncb", 7): 1000.0})
    assert figures.shares_axis(near.facets, near.unit)
    assert not figures.shares_axis(far.facets, far.unit)
    assert not figures.shares_axis(near.facets[:1], near.unit)


def test_groups_of_other_protocols_get_their_own_axes(sample):
    case = sample.block_case("block/ncb", 14, 384)
    cases = [case, dataclasses.replace(case, backend="torch")]
    table = build(sample.run_of([sample.measured(case, 0.2, 1.0, 100.0, seed=1) for case in cases]))
    assert len(table.facets) == 2
    assert not figures.shares_axis(table.facets, table.unit)


def test_long_names_are_cut_and_many_cases_fit(sample):
    results = [
        sample.measured(
            sample.block_case(f"block/{'long_name_' * 5}{i}", 14, 384), 0.2, 1.0, 100.0 + i, seed=i
        )
        for i in range(40)
    ]
    table = build(sample.run_of(results))
    (drawing,) = figures.latency_panels(table.facets, table.unit)
    assert "…" in texts(drawing)
    assert texts(drawing).count("±") == 40


def test_latencies_of_several_powers_of_ten_have_a_log_axis(sample):
    def drawn(*rates: float):
        results = [
            sample.measured(sample.block_case(f"block/{name}", 14, 384), 0.2, 1.0, rate, seed=place)
            for place, (name, rate) in enumerate(zip(("ncb", "ntb", "lsa"), rates, strict=True))
        ]
        return texts(figures.latency_panels(build(sample.run_of(results)).facets, (1e6, "ms"))[0])

    assert "log axis" in drawn(100.0, 10.0, 0.1)
    assert "log axis" not in drawn(100.0, 50.0, 10.0)


def test_a_rate_needs_two_cases_and_gmacs(sample):
    one = sample.measured(sample.block_case("block/ncb", 14, 384), 0.2, 1.0, 90.0, seed=1)
    bare = dataclasses.replace(one, artifact=None)
    assert figures.rate_panels(build(sample.run_of([one])).facets) == []
    assert figures.rate_panels(build(sample.run_of([bare])).facets) == []


def test_thinning_keeps_order_and_extremes():
    values = np.random.default_rng(0).normal(size=1000)
    kept = thinned(values, 60)
    assert 3 <= kept.size <= 60
    assert {values.min(), values.max()} <= set(kept)
    places = [int(np.flatnonzero(values == v)[0]) for v in kept]
    assert places == sorted(places)
    assert thinned(values[:60], 60) is not None
    assert thinned(values[:60], 60).size == 60


def test_many_cases_share_what_a_page_can_draw():
    assert share(30_000, 100, most=60, least=3) == 60
    assert share(30_000, 1_000, most=60, least=3) == 30
    assert share(30_000, 100_000, most=60, least=3) == 3
    assert share(30_000, 0, most=60, least=3) == 60


def test_of_many_points_few_are_named(sample):
    results = [
        sample.measured(sample.block_case(f"block/b{i}", 14, 384), 0.1 + 0.01 * i, 1.0, 90.0, seed=i)
        for i in range(40)
    ]
    (facet,) = build(sample.run_of(results)).facets
    found = {(facet.title, "gmacs"): findings.cost_agreement(facet, "gmacs")}
    (drawing,) = scatter.cost_panels([facet], found, (1e6, "ms"))
    named = [word for word in texts(drawing).split() if re.fullmatch(r"b\d+", word)]
    assert 1 <= len(named) < 24


def test_equal_lines_of_rate_are_few():
    assert scatter._round_rates(3.0, 3000.0) == [10.0, 100.0, 1000.0]
    assert scatter._round_rates(40.0, 150.0) == [50.0, 100.0]


def test_weights_of_one_network_stay_apart_in_every_figure(sample):
    """Their labels are longer than the margin, and differ in their ends alone."""
    specs = [ModelSpec.of("nextvit_small", resolution=224, weights=f"sha256:{digit * 64}") for digit in "123"]
    results = [
        sample.measured(Case(spec, "onnxruntime"), 5.8 + place, 31.8, 100.0, seed=place)
        for place, spec in enumerate(specs)
    ]
    table = build(sample.run_of(results))
    (facet,) = table.facets
    agreements = {(facet.title, c): findings.cost_agreement(facet, c) for c in ("gmacs", "params_m")}
    drawn = [
        *figures.latency_panels([facet], table.unit),
        *figures.rate_panels([facet]),
        *scatter.cost_panels([facet], agreements, table.unit),
        *figures.sample_panels([facet]),
    ]
    for drawing in drawn:
        found = texts(drawing)
        assert [f"…{digit * 7}" in found for digit in "123"] == [True] * 3
