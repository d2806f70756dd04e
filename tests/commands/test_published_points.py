"""What a run's report takes from the table of others' figures."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from commands.published import MAX_UNREAD, published_figures, published_points, unread_of_table
from models import published
from models.spec import Case, ModelSpec
from reports.records import CaseResult, RunInfo, StoredRun

BENCH = Path(__file__).parents[2] / "bench.toml"
T4 = "NVIDIA T4, TensorRT 8.0.3 (repo pins 8.0.3.4), fp16, batch 8"


def run_of(*names: str, resolution: int = 224) -> StoredRun:
    return run_at((name, resolution) for name in names)


def run_at(networks: Iterable[tuple[str, int]]) -> StoredRun:
    """A run of networks, each at its resolution."""
    cases = [Case(ModelSpec.of(name, resolution=side), "onnxruntime") for name, side in networks]
    info = RunInfo(1, "nets", "digest", 0, 0, 1, "", {}, {}, tuple(case.id for case in cases))
    return StoredRun(info, tuple(CaseResult(case) for case in cases))


def networks_of_variants() -> list[tuple[str, int]]:
    matrices = tomllib.loads(BENCH.read_text())["suites"]["variants"]["matrix"]
    return [(name, side) for m in matrices for name in m["models"] for side in m["resolutions"]]


def test_every_network_of_variants_has_a_place_on_the_accuracy_axis():
    networks = networks_of_variants()
    figures = published_figures(run_at(networks))
    assert set(networks) - {(f.model, f.resolution) for f in figures if f.top1} == set()


OFFICIAL = {
    "Mobile-Former": ("AAboys/MobileFormer README (ImageNet-1K)", [79.3, 77.9, 76.7, 75.2, 72.8]),
    "RepViT": ("(ImageNet-1K (300 ep, distilled))", [78.7, 80.0, 80.7, 82.3, 83.3]),
    "MobileOne": ("(ImageNet-1K (300 ep, no distillation))", [71.4, 75.9, 77.4, 78.1, 79.4]),
    "SHViT": ("(ImageNet-1K (300 ep, no distillation))", [72.8, 75.2, 77.4, 79.4]),
    "SwiftFormer": ("(ImageNet-1K (300 ep, distilled))", [75.7, 78.5, 80.9, 83.0]),
    "FastViT": ("(ImageNet-1K (300 ep, no distillation))", [76.2, 79.3, 79.9, 80.9, 82.7]),
}


@pytest.mark.parametrize("family", OFFICIAL)
def test_the_authors_own_table_goes_before_others(family):
    """Their README, with one recipe for the whole family."""
    setting, top1 = OFFICIAL[family]
    figures = [f for f in published_figures(run_at(networks_of_variants())) if f.family == family]
    assert [f.top1 for f in figures] == top1
    assert len({f.source for f in figures}) == 1
    assert "README" in figures[0].source
    assert figures[0].source.endswith(setting)


def test_of_equal_tables_the_authors_own_is_taken():
    names = [f"timm/swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")]
    figures = published_figures(run_of(*names))
    assert [(f.top1, f.source.startswith("microsoft/Swin-Transformer README")) for f in figures] == [
        (81.2, True), (83.2, True), (83.5, True)
    ]  # fmt: skip


def test_a_network_has_the_same_accuracy_in_every_run():
    networks = networks_of_variants()
    alone = [figure for network in networks for figure in published_figures(run_at([network]))]
    assert alone == list(published_figures(run_at(networks)))


def test_the_figure_of_a_paper_comes_whole():
    points = [p for p in published_points(run_of("nextvit_small")) if p.latency.setup == T4 and not p.metric]
    assert len(points) == 34
    assert {"Next-ViT-S", "ResNet-101", "ConvNeXt-B", "PoolFormer-M48", "CSWin-T", "UniFormer-B"} <= {
        p.network for p in points
    }
    assert {p.network: p.model for p in points if p.model} == {"Next-ViT-S": "nextvit_small"}
    assert {p.resolution for p in points} == {224}
    exact = next(p for p in points if p.network == "Next-ViT-S")
    assert (exact.latency.ms, exact.latency.error_ms, exact.top1) == (7.7, 0.0, 82.5)
    read = next(p for p in points if p.network == "ConvNeXt-T")
    assert (read.latency.error, read.latency.error_ms) == ("±0.1 ms", 0.1)
    assert read.params_m == pytest.approx(28.6, abs=0.5)  # its row has none: another source tells


def test_a_network_has_a_point_once_for_a_setup():
    points = published_points(run_of("nextvit_small", "timm/mobilevit_xs", "timm/efficientformer_l1"))
    keys = [(p.latency.setup, p.resolution, p.metric, p.network) for p in points]
    assert len(keys) == len(set(keys))
    assert not any("6M" in p.setting for p in points)


def test_setups_without_a_network_of_the_run_are_left_out():
    assert published_points(run_of("block/ncb")) == ()
    assert published_points(run_of("nextvit_small", resolution=320)) == ()
    setups = {p.latency.setup for p in published_points(run_of("timm/resnet101"))}
    assert T4 in setups
    assert not any("MobileOne" in setup for setup in setups)


def test_a_family_has_its_accuracies_from_one_table():
    """Recipes of training differ by percents: a line of ResNets must not mix them."""
    figures = published_figures(run_of("timm/resnet50", "timm/resnet101", "timm/resnet152"))
    assert [f.top1 for f in figures] == [80.846, 81.906, 82.294]
    assert all("resnet" in f.source and ".tv2_in1k" in f.source for f in figures)
    assert {f.family for f in figures} == {"ResNet"}


@pytest.mark.parametrize(
    ("metric", "networks", "small"),
    [
        ("COCO box AP as published, Mask R-CNN 1x", 27, 45.9),
        ("ADE20K mIoU as published, Semantic FPN 80k", 24, 46.5),
    ],
)
def test_the_papers_detection_and_segmentation_come_with_its_classification(metric, networks, small):
    """Figure 2 of Next-ViT, panels b and c, with the exact numbers of its README where it has them."""
    points = [p for p in published_points(run_of("nextvit_small", "timm/resnet50")) if p.metric == metric]
    on_t4 = {p.network: p for p in points if p.latency.setup == T4}
    assert len(on_t4) == networks
    ours = on_t4["Next-ViT-S"]
    assert (ours.top1, ours.latency.ms, ours.latency.error, ours.model) == (small, 38.2, "", "nextvit_small")
    assert on_t4["ResNet-50"].model == "timm/resnet50"
    assert on_t4["ResNet-50"].latency.error
    assert not any(p.metric for p in published_points(run_of("timm/shvit_s1")))


@pytest.fixture
def one_wrong_row(project, monkeypatch):
    """The table with Next-ViT-S's parameters as no number."""
    text = published.TABLE.read_text(encoding="utf-8").replace(",31.7,5.8,82.5,", ",31.7M,5.8,82.5,", 1)
    broken = project.folder / "published.csv"
    broken.write_text(text, encoding="utf-8")
    monkeypatch.setattr(published, "TABLE", broken)
    published._shipped.cache_clear()
    yield "models/published.csv, line 2: params_m = '31.7M': '31.7M' is not a number above 0"
    published._shipped.cache_clear()


def test_a_row_that_cannot_be_true_is_one_failure_of_a_run_of_networks(project, one_wrong_row):
    """Told before anything is measured and among the failures; all else is measured and compared."""
    command = ("--suite", "nets", "--backend", "simulated")
    answer = project.bench(*command)
    assert answer.code == 1
    assert f"warning: {one_wrong_row}; left out of the report" in answer.err
    told = answer.out.split("Left out, as others' figures that cannot be true:")[1]
    assert " ".join(told.split()).startswith(one_wrong_row)
    page = (project.folder / "results" / "nets.html").read_text(encoding="utf-8")
    section = page.split("<h3>Failed</h3>")[1].split("</ul>")[0]
    assert "<strong>models/published.csv, line 2</strong>" in section
    assert "params_m = &#39;31.7M&#39;: &#39;31.7M&#39; is not a number above 0" in section
    again = project.bench("report")
    assert again.code == 0
    assert one_wrong_row.partition(":")[0] in again.out
    assert json.loads(project.bench("report", "--json").out)["unread_published"] == [one_wrong_row]
    document = json.loads(project.bench(*command, "--json").out)
    assert document["unread_published"] == [one_wrong_row]
    figures = published_figures(run_of("nextvit_small", "timm/resnet50"))
    assert {f.model for f in figures if f.top1} == {"nextvit_small", "timm/resnet50"}


def test_what_others_published_of_networks_is_nothing_to_a_run_of_blocks(project, one_wrong_row):
    answer = project.bench("--suite", "tiny", "--backend", "simulated")
    assert answer.code == 0
    assert "Left out" not in answer.out
    assert "warning" not in answer.err


def test_of_many_wrong_rows_the_first_are_named(monkeypatch):
    monkeypatch.setattr("commands.published.unread", lambda: tuple(f"line {n}: wrong" for n in range(2, 40)))
    told = unread_of_table()
    assert len(told) == MAX_UNREAD + 1
    assert told[0] == "models/published.csv, line 2: wrong"
    assert told[-1] == "models/published.csv: 30 more rows that cannot be true"
