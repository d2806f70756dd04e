"""The sum of a network's parts beside the whole: counts, the residual and its interval, what is missing."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from models.spec import Case, ModelSpec
from reports import additivity
from reports.html import render
from reports.tables import build
from reports.terminal import print_table

WHOLE = Case(ModelSpec.of("nextvit_small"), "onnxruntime")
STEM = Case(ModelSpec.of("nextvit_stem"), "onnxruntime")
NCB = Case(ModelSpec.of("block/ncb", resolution=14, in_channels=384), "onnxruntime")
PARTS = [("stem", STEM.id), ("stages.0.0", NCB.id), ("stages.0.1", NCB.id), ("stages.0.2", NCB.id)]
LAYERS = {"Conv: /stem/stem.0/conv/Conv": 9_000_000, "Conv: /stages/stages.0/stages.0.1/mlp/Conv": 20_000_000}


def result(sample, case: Case, ms: float, *, between: float = 0.0, seed: int = 1):
    return sample.measured(case, ms, 1.0, 1000.0, seed=seed, between=between, spread=0.001)


def run(sample, *, whole_ms: float = 72.0, changes=lambda results: results, parts=PARTS, **options):
    """A stem of 10 ms and three blocks of 20 ms: 70 ms."""
    results = [
        result(sample, WHOLE, whole_ms, **options),
        result(sample, STEM, 10.0, seed=2, **options),
        result(sample, NCB, 20.0, seed=3, **options),
    ]
    stored = sample.run_of(changes(results), suite="additivity")
    return replace(
        stored, info=replace(stored.info, config={**stored.info.config, "parts": {WHOLE.id: parts}})
    )


def test_parts_are_counted_and_added_up(sample):
    (found,) = additivity.balances(build(run(sample)))
    assert [(part.row.label, part.count) for part in found.parts] == [("nextvit_stem", 1), ("ncb", 3)]
    assert found.total_ns == pytest.approx(70e6, rel=2e-3)
    assert found.ratio[0] == pytest.approx(70 / 72, rel=2e-3)
    assert found.rounds == 5
    assert "its 4 parts" in additivity.sentence(found)
    assert "less" in additivity.sentence(found)


@pytest.mark.parametrize(("in_turns", "ratio"), [(True, 20 / 72), (False, 30 / 72)])
def test_parts_in_turns_with_the_whole_are_compared_window_by_window(sample, in_turns, ratio):
    """The part had one slow window more than the network, so its rounds' medians are half as long again."""

    def windowed(one, speeds):
        rounds = []
        for r in one.rounds:
            samples = np.round(np.median(r.samples_ns) * np.repeat(speeds, 2)).astype(np.int64)
            turns = {"turns": {"company": 7 + r.round_index, "windows": [2] * len(speeds)}}
            rounds.append(replace(r, samples_ns=samples, environment=turns if in_turns else {}))
        return replace(one, rounds=tuple(rounds))

    def changes(results):
        whole, stem, ncb = results
        return [windowed(whole, (1, 1, 1, 1.5, 1.5)), windowed(stem, (1, 1.5, 1, 1.5, 1.5)), ncb]

    parts = [("stem", STEM.id), ("head", STEM.id)]
    (found,) = additivity.balances(build(run(sample, changes=changes, parts=parts)))
    assert found.ratio[0] == pytest.approx(ratio, rel=1e-2)
    assert found.total_ns == pytest.approx(found.ratio[0] * found.whole.summary.median_ns)


def test_the_interval_is_that_of_the_rounds(sample):
    steady = additivity.balances(build(run(sample)))[0].ratio
    wide = additivity.balances(build(run(sample, between=0.05)))[0].ratio
    assert steady[1] < 70 / 72 < steady[2]
    assert wide[2] - wide[1] > 5 * (steady[2] - steady[1])


def test_sum_and_whole_share_their_rounds(sample):
    """A machine that is twice as slow in one round is so for all: the ratio does not feel it."""

    def slow_round(results):
        return [
            replace(
                one,
                rounds=tuple(
                    replace(r, samples_ns=r.samples_ns * 2) if r.round_index == 3 else r for r in one.rounds
                ),
            )
            for one in results
        ]

    (found,) = additivity.balances(build(run(sample, changes=slow_round)))
    assert found.ratio[0] == pytest.approx(70 / 72, rel=2e-3)
    assert found.ratio[2] - found.ratio[1] < 0.01
    (fewer,) = additivity.balances(
        build(run(sample, changes=lambda r: [*r[:2], replace(r[2], rounds=r[2].rounds[:3])]))
    )
    assert fewer.rounds == 3


def test_the_profile_of_the_network_stands_beside_its_parts(sample):
    def profiled(results):
        first, *others = results[0].rounds
        return [replace(results[0], rounds=(replace(first, layers=LAYERS), *others)), *results[1:]]

    (found,) = additivity.balances(build(run(sample, changes=profiled)))
    assert [part.inside_ns for part in found.parts] == [9_000_000, 20_000_000]
    (bare,) = additivity.balances(build(run(sample)))
    assert [part.inside_ns for part in bare.parts] == [None, None]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_without_one_of_them_there_is_no_sum(sample, missing):
    def without(results):
        return [replace(r, rounds=()) if n == missing else r for n, r in enumerate(results)]

    table = build(run(sample, changes=without))
    assert additivity.balances(table) == []
    section = additivity.section(table)
    if missing == 0:
        assert section is None
    else:
        assert section.paragraphs == (
            "nextvit_small (onnxruntime, fp32, 1 thread) is not compared with its parts: 1 of 2 cases have no"
            " number.",
        )


@pytest.mark.parametrize(
    "planned",
    [
        "x",
        7,
        None,
        [],
        {WHOLE.id: 3},
        {WHOLE.id: []},
        {WHOLE.id: [["stem"]]},
        {WHOLE.id: ["ab"]},
        {WHOLE.id: [[1, 2]]},
        {WHOLE.id: [["stem", "no such"]]},
    ],
)
def test_records_of_others_may_say_anything_of_parts(sample, planned):
    stored = run(sample)
    config = {**stored.info.config, "parts": planned}
    table = build(replace(stored, info=replace(stored.info, config=config)))
    assert additivity.balances(table) == []
    assert additivity.headline(table) == ""
    assert (additivity.section(table) is None) == (planned != {WHOLE.id: [["stem", "no such"]]})


def test_doubtful_parts_put_the_sum_in_doubt(sample):
    def two_modes(results):
        return [*results[:2], replace(results[2], rounds=sample.rounds_of(20e6, modes=0.9))]

    (found,) = additivity.balances(build(run(sample, changes=two_modes)))
    assert (
        "1 of these 3 cases carry a flag that puts their numbers in doubt (invalid)."
        in additivity.sentence(found)
    )
    assert "doubt" not in additivity.sentence(additivity.balances(build(run(sample)))[0])


def test_the_run_is_headed_by_the_comparison(sample):
    table = build(run(sample))
    (found,) = additivity.balances(table)
    assert additivity.headline(table) == additivity.sentence(found)
    assert re.search(r"<h1>nextvit_small \(onnxruntime, fp32, 1 thread\) takes", render(run(sample)))
    stream = io.StringIO()
    print_table(run(sample), Console(file=stream, width=200))
    assert stream.getvalue().startswith("nextvit_small (onnxruntime, fp32, 1 thread) takes")
    assert additivity.headline(build(sample.run_of([result(sample, NCB, 20.0)]))) == ""


def test_the_page_has_a_table_with_sum_whole_and_residual(sample):
    page = render(run(sample))
    section = re.search(r'<section id="additivity">.*?</section>', page, re.DOTALL)[0]
    rows = re.findall(r"<tr.*?</tr>", section, re.DOTALL)
    assert len(rows) == 1 + 2 + 3
    assert "Residual: sum less whole" in rows[-1]
    assert "−2.8 %" in rows[-1]
    assert 'href="#additivity"' in page
    assert "additivity" not in render(sample.run_of([result(sample, NCB, 20.0)]))
