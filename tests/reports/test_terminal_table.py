"""The printed table, against golden text: regenerate with `UPDATE_GOLDEN=1` and read the difference."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from models.spec import Case, ModelSpec
from reports.records import CaseResult
from reports.terminal import print_table
from runners.measurement import Failure

GOLDEN = Path(__file__).with_name("golden")


def printed(run, width: int, *, color: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=color, color_system="standard" if color else None
    )
    print_table(run, console)
    return stream.getvalue()


def normalised(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("suite", ["blocks", "networks"])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_golden_tables(suite, width, blocks_run, networks_run):
    text = normalised(printed(blocks_run if suite == "blocks" else networks_run, width))
    golden = GOLDEN / f"table_{suite}_{width}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 120, 160, 200])
def test_no_line_is_wider_than_the_window_and_every_case_has_one_line(width, blocks_run):
    lines = printed(blocks_run, width).splitlines()
    if width >= 40:
        assert max(cell_len(line) for line in lines) <= width
    assert sum("±" in line for line in lines) == 54


def test_escape_codes_only_where_they_are_wanted(blocks_run):
    assert "\x1b" not in printed(blocks_run, 100)
    assert "\x1b" in printed(blocks_run, 100, color=True)


def test_failures_say_why_and_what_helps(networks_run):
    text = printed(networks_run, 120)
    assert "Failed: 1 of 16 cases" in text
    assert "timm/swin_tiny_patch4_window7_224 224 fp32 openvino: conversion" in text
    assert "aten::alias has no translation" in text
    assert "Export with the other exporter" in text


def test_flags_present_and_no_others_are_explained(blocks_run):
    text = printed(blocks_run, 200)
    assert "NOI  noisy: " in text
    assert "CNV  not converged: " in text
    assert "throttled" not in text


def test_a_clean_run_has_no_legend_and_no_flag_column(sample):
    results = [
        sample.measured(sample.block_case(f"block/{n}", 14, 384), 0.2, 1.0, r, seed=1, between=0.002)
        for n, r in (("ncb", 100.0), ("ntb", 90.0))
    ]
    text = printed(sample.run_of(results), 120)
    assert "flags" not in text.lower()
    assert "Failed" not in text


def test_simulated_results_are_unmistakable(sample):
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384), backend="simulated")
    text = printed(sample.run_of([sample.measured(case, 0.2, 1.0, 90.0, seed=1)]), 80)
    assert "SIMULATED: 1 of 1 result come from no device" in text.splitlines()[0]


def test_nothing_measured_and_an_unfinished_run(sample):
    run = sample.run_of([CaseResult(sample.block_case("block/ncb", 14, 384))])
    text = printed(dataclasses.replace(run, info=dataclasses.replace(run.info, finished_at_ns=None)), 80)
    assert "Nothing was measured yet" in text
    assert "not finished" in text
    assert "Not measured yet: 1 case (ncb)" in text


def test_a_single_case_needs_no_rank(sample):
    run = sample.run_of([sample.measured(sample.block_case("block/ncb", 14, 384), 0.2, 1.0, 90.0, seed=1)])
    text = printed(run, 120)
    assert "rank" not in text
    assert "vs best" not in text


def test_one_round_shows_that_nothing_is_known_of_the_spread(sample):
    case = sample.block_case("block/ncb", 14, 384)
    run = sample.run_of([sample.measured(case, 0.2, 1.0, 90.0, seed=1, count=1)])
    assert "±?" in printed(run, 120)


def test_names_from_outside_cannot_inject_markup(sample):
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384))
    named = dataclasses.replace(case, model=dataclasses.replace(case.model, name="[bold red]x[/]"))
    text = printed(sample.run_of([sample.measured(named, 0.2, 1.0, 90.0, seed=1)]), 120)
    assert "[bold red]x[/]" in text


def weights_of(sample, *seeds: int, name: str = "nextvit_small"):
    """Results of checkpoints of one network, whose digests begin with the seed."""
    specs = [ModelSpec.of(name, resolution=224, weights=f"sha256:{seed:02x}{62 * 'a'}") for seed in seeds]
    return [
        sample.measured(Case(spec, "onnxruntime"), 5.8, 31.8, 100.0 + place, seed=place)
        for place, spec in enumerate(specs)
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_two_weights_of_a_network_stay_apart(width, sample):
    lines = printed(sample.run_of(weights_of(sample, 18, 52, 86)), width).splitlines()
    rows = [line for line in lines if line.startswith("  next")]
    digits = [re.search(r"[:…](\d\d)", row) for row in rows]
    assert sorted(found[1] for found in digits if found) == ["12", "34", "56"]
    assert max(map(cell_len, rows)) <= width


@pytest.mark.parametrize("width", [40, 60, 120])
def test_weights_that_were_built_and_not_timed_stay_apart_too(width, sample):
    results = [
        dataclasses.replace(
            one, rounds=(), failure=Failure("unavailable", "no NVIDIA GPU here", "", built=True)
        )
        for one in weights_of(sample, 18, 52)
    ]
    lines = printed(sample.run_of(results), width).splitlines()
    assert [any(seed in line for line in lines) for seed in ("12a", "34a")] == [True, True]
    assert [line for line in lines if cell_len(line) > width] == []


def test_a_tail_that_no_case_has_is_no_column(sample):
    def header(ms):
        results = [
            sample.measured(sample.block_case(f"block/{name}", 14, 384), 0.2, 1.0, 0.2e6 / ms / 1e3, seed=1)
            for name in ("ncb", "ntb")
        ]
        return next(line for line in printed(sample.run_of(results), 200).splitlines() if "median" in line)

    assert "p90" in header(2.0)
    assert "p90" not in header(0.2)
