"""A profile by layer, summed up by the network's modules; the other spans of a sample beside its median."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from models.spec import Case, ModelSpec
from reports import layer_names, layers, parts
from reports.html import render
from reports.records import CaseResult
from reports.tables import build
from reports.terminal import print_table
from runners.measurement import BETWEEN_LAYERS

MODULES = {
    "stem": "stem",
    "stages.0.0": "NCB",
    "stages.0.0.patch_embed": "patch embedding",
    "stages.1.3": "NTB",
    "norm": "head",
    "head": "head",
}
STEM = "/stem/stem.0/conv/Conv + /stem/stem.0/act/Relu"
PATCH = "/stages/stages.0/stages.0.0/patch_embed/conv/Conv"
NCB = "/stages/stages.0/stages.0.0/mlp/conv1/Conv + /stages/stages.0/stages.0.0/mlp/act/Relu"
NTB = "{ForeignNode[/stages/stages.1/stages.1.3/e_mhsa/Reshape.../stages/stages.1/stages.1.3/Add]}"
COPY = "Reformatting CopyNode for Input Tensor 0 to /stages/stages.0/stages.0.0/mlp/conv1/Conv"
REGION = "{ForeignNode[/stem/stem.0/conv/Conv.../stages/stages.1/stages.1.3/Add]}"
LAYERS = {STEM: 30_000, PATCH: 50_000, NCB: 610_000, NTB: 300_000, COPY: 2_000, "/head/Gemm": 8_000}


@pytest.mark.parametrize(
    ("layer", "paths"),
    [
        (STEM, ("stem.0.conv", "stem.0.act")),
        (PATCH, ("stages.0.0.patch_embed.conv",)),
        (NTB, ("stages.1.3.e_mhsa", "stages.1.3")),
        ("PWN(/layer1/layer1.0/act1/Sigmoid, /layer1/layer1.0/Mul)", ("layer1.0.act1", "layer1.0")),
        ("/layers/layers.0/blocks/blocks.1/attn/MatMul", ("layers.0.blocks.1.attn",)),
        ("/Add", ("",)),
        (COPY, ()),
        ("[trainStation1]", ()),
        ("", ()),
    ],
)
def test_a_layer_lies_in_the_modules_of_its_nodes(layer, paths):
    assert layer_names.module_paths(layer) == paths


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("stages.0.0.mlp.conv1", "stages.0", "stages.0.0"),
        ("stem.0.conv", "stem.0", "stem.0.conv"),
        ("layers.0.blocks.1.attn", "layers.0", "layers.0.blocks.1"),
        ("head", "head", "head"),
        ("mhca.group_conv3x3", "mhca", "mhca.group_conv3x3"),
        ("", "other", "other"),
    ],
)
def test_the_levels_of_a_module_path(path, first, second):
    assert (layer_names.module_at_level(path, 1), layer_names.module_at_level(path, 2)) == (first, second)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (STEM, "stem"),
        (PATCH, "patch embedding"),
        (NCB, "NCB"),
        (NTB, "NTB"),
        (f"{PATCH} + {NCB}", "patch embedding + NCB"),
        ("/head/Gemm", "head"),
        (COPY, "other"),
        (REGION, "one region, stem to NTB"),
        ("/Add", "other"),
        ("/stages/stages.9/stages.9.0/Add", "other"),
    ],
)
def test_a_layer_has_the_kind_of_the_deepest_known_module(layer, kind):
    assert layer_names.kind_of(layer, MODULES) == kind


def profiled(sample, **changes) -> CaseResult:
    case = Case(ModelSpec.of("nextvit_small"), "trt", device="cuda", target="sm89")
    result = sample.measured(case, 5.8, 31.7, 6000.0, seed=1)
    rounds = tuple(replace(one, **changes) for one in result.rounds)
    return replace(result, rounds=rounds, artifact=replace(result.artifact, modules=MODULES))


def row_of(sample, **changes):
    return build(sample.run_of([profiled(sample, **changes)])).rows[0]


def test_time_is_summed_up_by_kind_and_nothing_is_lost(sample):
    found = layers.profile(row_of(sample, layers=LAYERS))
    assert {share.name: share.ns for share in found.kinds} == {
        "NCB": 610_000,
        "NTB": 300_000,
        "patch embedding": 50_000,
        "stem": 30_000,
        "head": 8_000,
        "other": 2_000,
    }
    for shares in (found.kinds, found.modules, found.submodules):
        assert sum(share.ns for share in shares) == pytest.approx(found.total_ns) == pytest.approx(1e6)
        assert sum(share.share for share in shares) == pytest.approx(1.0)
        assert sum(share.layers for share in shares) == len(LAYERS)
    assert [share.name for share in found.modules][:2] == ["stages.0", "stages.1"]
    assert [share.name for share in found.submodules][:2] == ["stages.0.0", "stages.1.3"]
    assert found.slowest[0].name == NCB


def test_rounds_are_averaged(sample):
    result = profiled(sample, layers=LAYERS)
    first = replace(result.rounds[0], layers={**LAYERS, NCB: 110_000})
    second = replace(result.rounds[1], layers={**LAYERS, NCB: 310_000, "new": 4_000})
    rest = tuple(replace(one, layers={}) for one in result.rounds[2:])
    row = build(sample.run_of([replace(result, rounds=(first, second, *rest))])).rows[0]
    found = {share.name: share.ns for share in layers.profile(row).kinds}
    assert found["NCB"] == 210_000
    assert found["other"] == 2_000 + 2_000  # a layer that only one of two rounds has


def test_one_sentence_says_where_the_time_goes(sample):
    found = layers.profile(row_of(sample, layers=LAYERS))
    assert layers.sentence(found) == "NCB 61 %, NTB 30 %, patch embedding 5 %, stem 3 %, head 1 %"


def test_without_a_profile_there_is_none(sample):
    assert layers.profile(row_of(sample)) is None


def test_a_file_without_module_names_puts_all_into_the_rest(sample):
    result = profiled(sample, layers=LAYERS)
    bare = replace(result, artifact=replace(result.artifact, modules={}))
    (share,) = layers.profile(build(sample.run_of([bare])).rows[0]).kinds
    assert (share.name, share.share) == ("other", 1.0)


SPANS = {"h2d": 200_000, "d2h": 10_000, "enqueue": 40_000, "host": 1_400_000}


def with_parts(sample):
    """Two inferences a sample, so that a forgotten division shows; the host's share of a third of them."""
    counts = {"host": 20, "enqueue": 20}
    spans = {name: np.full(counts.get(name, 60), 2 * value, dtype=np.int64) for name, value in SPANS.items()}
    return profiled(sample, parts=spans, loop_count=2, layers=LAYERS)


def test_parts_are_medians_per_inference(sample):
    row = build(sample.run_of([with_parts(sample)])).rows[0]
    assert {name: parts.median_ns(row, name) for name in SPANS} == SPANS
    assert parts.median_ns(row, "unknown") is None
    assert parts.latency_ns(row) == pytest.approx(row.summary.median_ns + 210_000)


def test_device_memory_is_that_of_the_hungriest_round(sample):
    result = with_parts(sample)
    rounds = [replace(one, peak_device_bytes=place * 2**20) for place, one in enumerate(result.rounds)]
    run = sample.run_of([replace(result, rounds=tuple(rounds))])
    assert parts.device_bytes(build(run).rows[0]) == (len(rounds) - 1) * 2**20
    assert f"{len(rounds) - 1}.00 MiB" in render(run)
    assert parts.device_bytes(row_of(sample)) is None


def test_latency_needs_both_transfers(sample):
    row = row_of(sample, parts={"h2d": np.full(60, 5, dtype=np.int64)})
    assert parts.latency_ns(row) is None


def test_terminal_and_page_show_both(sample):
    run = sample.run_of([with_parts(sample)])
    stream = io.StringIO()
    print_table(run, Console(file=stream, width=200))
    text = stream.getvalue()
    assert "nextvit_small: NCB 61 %, NTB 30 %" in text
    header, row = (next(line for line in text.splitlines() if word in line) for word in ("median", "±"))
    assert all(head in header for head in ("H2D", "D2H", "Enqueue", "Host"))
    assert {"200", "10.0", "40.0", "1400"} <= set(row.split())

    page = render(run)
    section = re.search(r'<section id="layers">.*?</section>', page, re.DOTALL)[0]
    assert "NCB 61 %" in section
    assert "the slowest layers" in section
    assert "H2D, µs" in re.search(r'<table id="cases".*?</table>', page, re.DOTALL)[0]


OPERATORS = {
    "Conv: /stem/stem.0/act/Relu": 30_000,
    "ReorderOutput: ReorderOutput_token_1": 5_000,
    "Conv: /stages/stages.0/stages.0.0/mlp/conv1/Conv": 600_000,
    "Gemm (by neighbours): /stages/stages.0/stages.0.0/Gemm_1": 40_000,
    "Add: /stages/stages.0/stages.0.0/Add": 20_000,
    "Transpose: Transpose_7": 5_000,
    BETWEEN_LAYERS: 7_000,
}


def test_layers_with_operators_are_summed_up_by_them_too(sample):
    row = row_of(sample, layers=OPERATORS)
    found = layers.profile(row)
    assert {share.name: (share.ns, share.layers) for share in found.operators} == {
        "Conv": (630_000, 2),
        "Gemm": (40_000, 1),
        "Add": (20_000, 1),
        "Transpose": (5_000, 1),
        "ReorderOutput": (5_000, 1),
        BETWEEN_LAYERS: (7_000, 1),
    }
    kinds = {share.name: share.ns for share in found.kinds}
    assert kinds == {"NCB": 660_000, "stem": 30_000, "other": 10_000, BETWEEN_LAYERS: 7_000}
    assert found.placed == pytest.approx(40_000 / 707_000)
    assert found.measured_ns == row.summary.median_ns
    assert layers.profile(row_of(sample, layers=LAYERS)).operators == ()


def test_notes_tell_what_neighbours_placed_and_which_profile_failed(sample):
    result = profiled(sample, layers=OPERATORS)
    broken = replace(result.rounds[1], environment={"layers_error": "no events"})
    table = build(sample.run_of([replace(result, rounds=(result.rounds[0], broken, *result.rounds[2:]))]))
    failed, placed = layers.notes(table, layers.profiles(table))
    assert "no events (1 round)" in failed
    assert "at most 6 % of the time (nextvit_small)" in placed
    assert layers.notes(build(sample.run_of([profiled(sample)])), []) == []


def test_the_profile_of_a_round_that_was_taken_again_does_not_count(sample):
    result = profiled(sample)
    first = replace(result.rounds[0], layers={STEM: 900}, flags=("disturbed",), attempt=0)
    again = replace(result.rounds[0], layers={STEM: 100}, flags=(), attempt=1)
    run = sample.run_of([replace(result, rounds=(first, again, *result.rounds[1:]))])
    assert layers.profile(build(run).rows[0]).total_ns == 100


def test_cases_of_several_groups_are_called_by_their_group(sample):
    one = profiled(sample, layers=LAYERS)
    other = replace(one, case=replace(one.case, precision="int8"))
    labels = [found.label for _, found in layers.profiles(build(sample.run_of([one, other])))]
    assert labels == ["nextvit_small, 224x224, fp32", "nextvit_small, 224x224, int8"]


def test_many_kinds_share_a_column(sample):
    many = {f"/part{number}/Add": 1000 + number for number in range(20)}
    result = profiled(sample, layers=many)
    kinds = {f"part{number}": f"kind {number}" for number in range(20)}
    result = replace(result, artifact=replace(result.artifact, modules=kinds))
    table = build(sample.run_of([result]))
    grid = layers.kinds_grid(layers.profiles(table))
    assert grid.heads[-1][0] == "the rest"
    assert len(grid.heads) == len(grid.lines[0].cells) == 4 + 9 + 1
    assert sum(cell.sort for cell in grid.lines[0].cells[4:]) == pytest.approx(1.0)


def test_layer_names_from_outside_are_escaped(sample):
    run = sample.run_of([profiled(sample, layers={"<script>alert(1)</script>": 5})])
    assert "<script>alert(1)" not in render(run)


def test_the_modules_of_an_artifact_survive_json(sample):
    from converters.artifact import Artifact

    artifact = profiled(sample).artifact
    assert Artifact.from_dict(artifact.to_dict()).modules == MODULES
    without = {name: value for name, value in artifact.to_dict().items() if name != "modules"}
    assert Artifact.from_dict(without).modules == {}
