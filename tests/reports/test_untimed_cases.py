"""Engines that are built where no GPU is: shown with what their builder tells, and no latency of ours."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from models.spec import Case, ModelSpec
from reports import untimed
from reports.findings import headline
from reports.html import render
from reports.records import CaseResult, PublishedFigure, PublishedLatency, StoredRun
from reports.tables import build
from reports.terminal import print_table
from runners.measurement import Failure

REASON = "no NVIDIA GPU on this machine"
CARRY = "Carry it there: `python bench.py bundle --suite variants -o a.tar`; then `python bench.py import`."
T4 = "NVIDIA T4, TensorRT 8.0.3, fp16, batch 8"
FACTS = {"layers": 270, "build_ns": 778_000_000, "weights_bytes": 131_000_000, "activation_bytes": 9_700_000}
PUBLISHED = [
    PublishedFigure(
        "nextvit_small",
        224,
        "the README",
        82.5,
        (
            PublishedLatency(7.7, "TensorRT", T4, "the README"),
            PublishedLatency(3.5, "Core ML", "a phone", "it"),
        ),
    ),
    PublishedFigure(
        "timm/resnet101", 224, "", None, (PublishedLatency(13.0, "TensorRT", T4, "figure 2", "±0.1 ms"),)
    ),
]


def engine(sample, name: str, *, target: str = "sm89", **facts) -> CaseResult:
    case = Case(ModelSpec.of(name), "trt", device="cuda", target=target)
    artifact = replace(
        sample.make_artifact(case, 5.8, 31.7), kind="engine", target=target, facts=facts or FACTS
    )
    return CaseResult(case, artifact, (), Failure("unavailable", REASON, CARRY, built=True), 1)


@pytest.fixture
def engines_run(sample):
    names = ("nextvit_small", "timm/resnet101", "timm/mobilenetv2_100")
    return sample.run_of([engine(sample, name) for name in names], suite="variants")


@pytest.fixture
def mixed_run(sample):
    """Timed on the CPU, built for a GPU, and one conversion that failed."""
    timed = [
        sample.measured(Case(ModelSpec.of(name), "onnxruntime"), 5.8, 31.7, 118.0, seed=place)
        for place, name in enumerate(("nextvit_small", "timm/resnet101"))
    ]
    failed = CaseResult(
        Case(ModelSpec.of("timm/resnet50"), "trt", device="cuda", target="sm89"),
        None,
        (),
        Failure("conversion", "engine: no implementation"),
        1,
    )
    return sample.run_of([*timed, engine(sample, "nextvit_small"), failed], suite="variants")


def printed(run, width: int) -> str:
    stream = io.StringIO()
    print_table(run, Console(file=stream, width=width), published=PUBLISHED)
    return stream.getvalue()


def test_the_headline_says_that_nothing_was_timed_and_why(engines_run):
    assert headline(build(engines_run)) == f"Nothing was timed: 3 cases built, and {REASON}."


def test_each_built_case_shows_what_the_builder_tells(engines_run):
    line = next(line for line in printed(engines_run, 160).splitlines() if "nextvit_small" in line)
    for text in ("121 MiB", "778 ms", "270", "125 MiB", "9.25 MiB", "7.7 ms"):
        assert text in line


@pytest.mark.parametrize("width", [80, 160])
def test_a_published_latency_is_marked_as_such_and_stands_in_no_measured_column(engines_run, width):
    text = printed(engines_run, width)
    flat = " ".join(text.split())
    assert "median" not in text
    assert "±" not in text.replace("±0.1 ms", "")
    assert f"published, not measured here: {T4} (the README)" in flat
    assert "≈ 13.0 ms" in text
    assert "read off a plot, ±0.1 ms" in flat
    assert "3.5 ms" not in text  # Core ML's figure is not TensorRT's
    for line in text.splitlines():
        assert cell_len(line.rstrip()) <= width or line.lstrip().startswith("python bench.py")


def test_the_terminal_says_what_to_do_in_lines_that_can_be_copied(engines_run):
    lines = [line.strip() for line in printed(engines_run, 60).splitlines()]
    assert "python bench.py bundle --suite variants -o a.tar" in lines
    assert "python bench.py import" in lines
    assert lines.count("python bench.py import") == 1


def test_columns_that_no_builder_filled_are_left_out(sample):
    run = sample.run_of([engine(sample, "timm/resnet18", builder="tensorrt 10.3")])
    text = printed(run, 160)
    assert "weights" not in text
    assert "published" not in text
    assert "resnet18" in text


def test_a_mixed_run_keeps_the_three_kinds_apart(mixed_run):
    table = build(mixed_run)
    assert [len(part) for part in (table.rows, table.untimed, table.failures)] == [2, 1, 1]
    text = printed(mixed_run, 160)
    assert "1 of 4 cases is built and not timed" in text
    assert "Failed: 1 of 4 cases" in text
    assert text.index("onnxruntime") < text.index("built and not timed") < text.index("Failed:")


def test_engines_for_two_targets_are_told_apart(sample):
    run = sample.run_of([engine(sample, "nextvit_small", target=target) for target in ("sm86", "sm89")])
    lines = [line for line in printed(run, 160).splitlines() if line.startswith("  nextvit_small")]
    assert ["sm86" in lines[0], "sm89" in lines[1]] == [True, True]


def test_settings_of_the_engine_keep_cases_out_of_one_ranking(sample):
    plain = Case(ModelSpec.of("nextvit_small"), "trt", device="cuda", target="sm89")
    cases = [
        plain,
        replace(plain, target="sm86"),
        replace(plain, runtime=(("cuda_graph", True),)),
        replace(plain, build=(("optimization_level", 5),)),
    ]
    run = sample.run_of([sample.measured(case, 5.8, 31.7, 900.0, seed=3) for case in cases])
    titles = [facet.title for facet in build(run).facets]
    assert len(titles) == len(set(titles)) == 4
    assert "224x224, sm89, cuda_graph=True" in titles


def test_the_page_has_a_section_of_its_own_for_them(mixed_run):
    page = render(mixed_run, published=PUBLISHED)
    section = re.search(r'<section id="built">.*?</section>', page, re.DOTALL)[0]
    for text in ("nextvit_small", REASON, "Published elsewhere", "7.7 ms", T4, "the README"):
        assert text in section
    assert "<code>python bench.py bundle --suite variants -o a.tar</code>" in section
    assert "Measured here" not in section
    assert "built, not timed" in re.search(r'<table id="cases".*?</table>', page, re.DOTALL)[0]


def test_the_page_marks_each_published_latency_with_its_source(engines_run):
    section = re.search(
        r'<section id="built">.*?</section>', render(engines_run, published=PUBLISHED), re.DOTALL
    )[0]
    marks = dict(re.findall(r'<p class="note">(\S) (.*?)</p>', section))
    assert list(marks) == ["*", "†"]
    assert "the README" in marks["*"]
    assert "read off a plot" in marks["†"]
    assert "7.7 ms *<" in section
    assert "≈ 13.0 ms †<" in section


def test_the_page_says_what_to_do_in_lines_that_can_be_copied(engines_run):
    section = re.search(
        r'<section id="built">.*?</section>', render(engines_run, published=PUBLISHED), re.DOTALL
    )[0]
    assert (
        "<p>Carry it there:</p>\n<pre><code>python bench.py bundle --suite variants -o a.tar</code></pre>"
        in section
    )
    assert section.count("<pre>") == 2


def test_a_page_with_nothing_timed_says_so_once(engines_run, mixed_run):
    page = render(engines_run, published=PUBLISHED)
    assert 'id="results"' not in page
    assert 'href="#results"' not in page
    assert 'href="#built"' in page
    assert 'href="#results"' in render(mixed_run, published=PUBLISHED)
    failed = replace(mixed_run, results=mixed_run.results[2:])
    assert 'id="results"' in render(failed)  # what failed is told there


def test_a_published_latency_is_on_no_axis(engines_run):
    page = render(engines_run, published=PUBLISHED)
    assert 'id="latency"' not in page
    assert 'id="accuracy"' not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert "7.7" not in data


def test_a_page_without_them_has_no_such_section(blocks_run):
    assert 'id="built"' not in render(blocks_run)
    assert 'id="layers"' not in render(blocks_run)


def test_networks_stand_beside_figures_of_one_setup_where_there_is_one(sample):
    """A phone that one paper used alone is left out where another one has all of them."""
    names = ("nextvit_small", "nextvit_base", "timm/resnet101")
    both = [
        PublishedFigure(
            name,
            224,
            "",
            None,
            (
                PublishedLatency(1.0 + place, "Core ML", f"phone {place}", "its own paper"),
                PublishedLatency(7.0, "TensorRT", T4, "the README"),
                PublishedLatency(3.0 + place, "Core ML", "the shared phone", "the README"),
            ),
        )
        for place, name in enumerate(names)
    ]
    cases = [Case(ModelSpec.of(name), "coreml", device="iphone", precision="fp16") for name in names]
    failure = Failure("unavailable", REASON, CARRY, built=True)
    results = [CaseResult(case, sample.make_artifact(case, 5.8, 31.7), (), failure, 1) for case in cases]
    run = StoredRun(sample.networks_run().info, tuple(results), ())
    told = untimed.rows(build(run), both)
    assert [row.published.setup for row in told if row.published] == ["the shared phone"] * 3
    assert [row.published_text for row in told] == ["3.0 ms", "4.0 ms", "5.0 ms"]


def test_a_wrong_row_stands_with_what_is_built_where_nothing_is_timed(engines_run):
    page = render(engines_run, unread=["models/published.csv, line 7: acc_top1 = 'x': no number"])
    built = re.search(r'<section id="built">.*?</section>', page, re.DOTALL)
    assert "<strong>models/published.csv, line 7</strong>" in built[0]
