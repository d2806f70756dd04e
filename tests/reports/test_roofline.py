"""The measured peaks and each case's share of them: which roof holds for whom, and what is counted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from models.spec import Case, ModelSpec
from reports import findings, roofline
from reports.headline import headline
from reports.html import render
from reports.tables import build, fused_facets

GEMM = ModelSpec.of("peak/gemm", resolution=28, in_chans=256)
COPY = ModelSpec.of("peak/copy", resolution=1024, in_chans=4)
NCB = ModelSpec.of("block/ncb", resolution=14, in_channels=384)


def result(sample, model: ModelSpec, ms: float, *, gmacs: float = 0.4, params_m: float = 0.5, **case):
    backend = case.pop("backend", "onnxruntime")
    made = Case(model, backend, **case)
    found = sample.measured(made, ms, params_m, 1000.0, seed=4, spread=0.001, between=0.0005)
    return replace(found, artifact=replace(found.artifact, gmacs=gmacs))


def results(sample):
    """Peaks: 200 Gop/s in fp32, 400 in int8, 33.5 GB/s; NCB reaches 100 Gop/s."""
    return [
        result(sample, GEMM, 4.0),
        result(sample, GEMM, 2.0, precision="int8"),
        result(sample, COPY, 1.0, gmacs=0.0, params_m=0.0),
        result(sample, NCB, 4.0, gmacs=0.2, params_m=1.0),
        result(sample, NCB, 4.0, gmacs=0.2, params_m=1.0, precision="int8"),
        result(sample, NCB, 4.0, gmacs=0.2, params_m=1.0, threads=2),
    ]


def table_of(sample, found=None):
    return build(sample.run_of(found or results(sample), suite="roofline"))


def test_a_peak_holds_for_its_runtime_precision_and_threads(sample):
    table = table_of(sample)
    roofs = roofline.roofs(table)
    assert set(roofs) == {("onnxruntime, 1 thread", "fp32"), ("onnxruntime, 1 thread", "int8")}
    fp32 = roofs["onnxruntime, 1 thread", "fp32"]
    assert fp32.ops_per_s == pytest.approx(200e9, rel=2e-3)
    assert fp32.bytes_per_s == pytest.approx(2 * 4 * 1024**2 * 4 / 1e-3, rel=2e-3)
    under = roofline.points(table, roofs)
    assert [(one.row.case.precision, one.row.case.threads) for one in under] == [("fp32", 1), ("int8", 1)]
    assert [one.of_peak for one in under] == pytest.approx([0.5, 0.25], rel=5e-3)


def test_intensity_counts_weights_in_their_precision_and_tensors_in_theirs(sample):
    table = table_of(sample)
    fp32, int8 = roofline.points(table, roofline.roofs(table))
    tensors = 2 * 14 * 14 * 384 * 4
    assert fp32.intensity == pytest.approx(0.4e9 / (4e6 + tensors))
    assert int8.intensity == pytest.approx(0.4e9 / (1e6 + tensors))


def test_the_lower_roof_is_memory_where_little_is_computed_for_a_byte(sample):
    few = result(sample, NCB, 1.0, gmacs=0.001, params_m=1.0)
    table = table_of(sample, [*results(sample)[:3], few])
    (point,) = roofline.points(table, roofline.roofs(table))
    attainable = point.intensity * point.roof.bytes_per_s
    assert point.roof.attainable(point.intensity) == attainable < point.roof.ops_per_s
    assert point.of_roof == pytest.approx(2e9 / attainable, rel=5e-3)
    assert point.of_roof > point.of_peak


def test_without_a_copy_there_is_one_roof(sample):
    table = table_of(sample, [results(sample)[0], results(sample)[3]])
    (point,) = roofline.points(table, roofline.roofs(table))
    assert point.of_roof == point.of_peak
    assert roofline.section(table) is not None


def test_the_fastest_product_is_the_peak_and_a_doubtful_one_is_none(sample):
    other = ModelSpec.of("peak/gemm", resolution=32, in_chans=512)
    found = [*results(sample)[:1], result(sample, other, 1.0)]
    (roof,) = roofline.roofs(table_of(sample, found)).values()
    assert roof.ops_per_s == pytest.approx(800e9, rel=2e-3)
    spread = sample.rounds_of(1e6, modes=0.9, backend="onnxruntime")  # two modes: flagged invalid
    (roof,) = roofline.roofs(table_of(sample, [found[0], replace(found[1], rounds=spread)])).values()
    assert roof.ops_per_s == pytest.approx(200e9, rel=2e-3)


def test_a_peak_in_doubt_is_better_than_none_and_says_so(sample):
    first, *others = results(sample)[:4]
    spread = sample.rounds_of(4e6, modes=0.9)
    section = roofline.section(table_of(sample, [replace(first, rounds=spread), *others]))
    assert "1 of these 4 numbers, 1 peak among them, carry a flag" in section.paragraphs[-1]
    assert "(invalid)" in section.paragraphs[-1]
    assert "doubt" not in " ".join(roofline.section(table_of(sample)).paragraphs)


def test_the_headline_says_how_near_the_cases_come_to_the_peak(sample):
    assert headline(table_of(sample)) == (
        "ncb reaches 50 % of the machine's own peak (14x14x384, fp32, 1 thread), the most of 2 cases;"
        " ncb 25 % (14x14x384, int8, 1 thread), the least."
    )
    assert headline(table_of(sample, [results(sample)[0], results(sample)[3]])) == (
        "ncb reaches 50 % of the machine's own peak (14x14x384)."
    )
    alone = table_of(sample, results(sample)[:3])
    assert headline(alone) == findings.headline(alone)


def test_a_peak_is_no_answer_to_which_is_fastest(sample):
    table = table_of(sample)
    assert {row.case.model.name for facet in fused_facets(table) for row in facet.rows} == {"block/ncb"}
    alone = table_of(sample, results(sample)[:3])
    assert fused_facets(alone) == alone.facets


def test_a_case_whose_bytes_are_unknown_has_no_place(sample):
    bare = results(sample)[3]
    table = table_of(
        sample, [*results(sample)[:3], replace(bare, artifact=replace(bare.artifact, gmacs=0.0))]
    )
    assert roofline.points(table, roofline.roofs(table)) == []
    odd = replace(bare.artifact, outputs=(replace(bare.artifact.outputs[0], dtype="no type"),))
    for artifact in (None, odd):
        row = build(sample.run_of([replace(bare, artifact=artifact)])).rows[0]
        assert roofline.least_bytes(row) is None


def test_the_page_shows_peaks_shares_and_the_figure(sample):
    page = render(sample.run_of(results(sample), suite="roofline"))
    section = re.search(r'<section id="roofline">.*?</section>', page, re.DOTALL)[0]
    assert "Measured peaks" in section
    assert "Share of the peak" in section
    assert "<svg" in section
    assert "int8 2.0" in section
    assert "50 %" in section
    assert 'href="#roofline"' in page
    assert 'id="roofline"' not in render(sample.run_of(results(sample)[3:]))
