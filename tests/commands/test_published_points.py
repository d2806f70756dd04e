"""What a run's report takes from the table of others' figures."""

from __future__ import annotations

import pytest

from commands.published import published_figures, published_points
from models import published
from models.spec import Case, ModelSpec
from reports.records import CaseResult, RunInfo, StoredRun

T4 = "NVIDIA T4, TensorRT 8.0.3 (repo pins 8.0.3.4), fp16, batch 8"


def run_of(*names: str, resolution: int = 224) -> StoredRun:
    cases = [Case(ModelSpec.of(name, resolution=resolution), "onnxruntime") for name in names]
    info = RunInfo(1, "nets", "digest", 0, 0, 1, "", {}, {}, tuple(case.id for case in cases))
    return StoredRun(info, tuple(CaseResult(case) for case in cases))


def test_the_figure_of_a_paper_comes_whole():
    points = [p for p in published_points(run_of("nextvit_small")) if p.latency.setup == T4]
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
    keys = [(p.latency.setup, p.resolution, p.network) for p in points]
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


def test_a_row_that_cannot_be_true_is_one_line_of_error_before_anything_is_measured(project, monkeypatch):
    text = published.TABLE.read_text(encoding="utf-8").replace(",31.7,5.8,82.5,", ",31.7M,5.8,82.5,", 1)
    broken = project.folder / "published.csv"
    broken.write_text(text, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(published, "TABLE", broken)
        published.table.cache_clear()
        answer = project.bench("--suite", "tiny")
    published.table.cache_clear()
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert f"error: {broken}: line 2: params_m = '31.7M': '31.7M' is not a number above 0" in answer.err
    assert "published.csv" in answer.err
    assert not list(project.folder.rglob("*.db"))
