"""Suites with a table `match`: checked in bench.toml, planned, run, and what they refuse."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from commands import UsageError
from commands.config import load
from commands.match_request import MatchRequest, read
from commands.options import CONFIG
from commands.plan import Overrides, make
from commands.run import add_arguments
from reports.network_stages import stages_of
from reports.store import Store

HYBRID = """
[suites.pair]
description = "Two strategies"

[suites.pair.timing]
round_seconds = 0.1
warmup_seconds = 0.05
min_samples = 2

[suites.pair.match]
reference = "hybrid/cccc"
reference_setting = 4
models = ["hybrid/ccct"]
settings = "4-6"
fine_knob = "hidden"
fine_settings = "90-110"
rounds = 3
seeds = 0
"""
WRONG_TABLES = {
    "unknown key": ("rounds = 3", "round = 3", "unknown key 'suites.pair.match.round': did you mean rounds"),
    "no models": ('["hybrid/ccct"]', "[]", "suites.pair.match.models"),
    "no reference": ('reference = "hybrid/cccc"', "", "'suites.pair.match.reference' is missing"),
    "settings that go down": ('"4-6"', '"6-4"', "'6-4' goes down: the lowest comes first, 4-6"),
    "settings of another form": ('"4-6"', '"4..6"', "'4..6' is not written like 3-24"),
    "settings as a number": ('"4-6"', "46", "suites.pair.match.settings = 46"),
    "tolerance in percent": ("rounds = 3", "tolerance = 3", "suites.pair.match.tolerance = 3"),
    "no tolerance": ("rounds = 3", "tolerance = 0.0", "suites.pair.match.tolerance = 0.0"),
    "one round": ("rounds = 3", "rounds = 1", "suites.pair.match.rounds = 1"),
    "seeds": ("seeds = 0", "seeds = -1", "suites.pair.match.seeds = -1"),
    "a matrix too": (
        "[suites.pair.match]",
        '[[suites.pair.matrix]]\nmodels = ["block/ncb"]\n[suites.pair.match]',
        "suites.pair: matrix beside a table 'match': it takes only timing",
    ),
    "a list of backends": (
        'description = "Two strategies"',
        'description = "x"\nbackends = ["openvino"]',
        "suites.pair: backends beside a table 'match'",
    ),
}
WRONG_VALUES = {
    "unknown model": ('["hybrid/ccct"]', '["hybrid/cct"]', "suite 'pair': match.models: unknown model"),
    "unknown reference": ('"hybrid/cccc"', '"hybrid/c"', "suite 'pair': match.reference: unknown model"),
    "no such knob": ("rounds = 3", 'knob = "width"', "suite 'pair': match.reference: hybrid/cccc: has no"),
    "no such fine knob": ('"hidden"', '"width"', "hybrid/cccc: has no option 'width' to search"),
    "fine settings": ('"90-110"', '"90-95"', "suite 'pair': match.fine_settings: '90-95' leaves out 100"),
    "the reference": ('["hybrid/ccct"]', '["hybrid/cccc"]', "and not the reference hybrid/cccc"),
    "backend": ("rounds = 3", 'backend = "openvin"', "suite 'pair': match.backend: unknown backend"),
    "depth": ('"4-6"', '"3-6"', "depth=3: must be an integer of at least 4"),
}
WRONG_OPTIONS = {
    "profile": (["--profile"], "--profile: suite 'pair' searches networks of one latency: it takes --model"),
    "device": (["--device", "cuda"], "--device: suite 'pair' searches"),
    "resolution": (["--resolution", "32"], "--resolution: suite 'pair' searches"),
    "pattern": (["--exclude", "*"], "--exclude: suite 'pair' searches"),
    "budget": (["--max-seconds", "5"], "--max-seconds: suite 'pair' searches"),
    "seed": (["--seed", "0"], "--seed: suite 'pair' searches"),
    "two backends": (["--backend", "onnxruntime,openvino"], "--backend: networks are matched in one"),
    "two numbers of threads": (["--threads", "1", "--threads", "2"], "name 1 or 2 alone"),
    "an unknown backend": (["--backend", "onnxruntim"], "--backend: unknown backend 'onnxruntim'"),
    "a block": (["--model", "block/ncb"], "--model: block/ncb: has no option 'depth' to search"),
    "seeds": (["--seeds", "few"], "--seeds: 'few' is not a whole number from 0, for no training, to 1000"),
    "rounds": (["--rounds", "1"], "--rounds: one round has no interval"),
}


@pytest.fixture
def pair(project):
    project.add(HYBRID)
    return project


def change(pair, old: str, new: str) -> None:
    """In the suite `pair` alone."""
    others, own = pair.config.read_text().split("[suites.pair]")
    assert old in own
    pair.config.write_text(f"{others}[suites.pair]{own.replace(old, new)}")


def arguments(*argv: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(("old", "new", "message"), WRONG_TABLES.values(), ids=list(WRONG_TABLES))
def test_a_wrong_table_is_named(pair, old, new, message):
    change(pair, old, new)
    with pytest.raises(UsageError) as caught:
        load(pair.config)
    assert message in str(caught.value)


@pytest.mark.parametrize(("old", "new", "message"), WRONG_VALUES.values(), ids=list(WRONG_VALUES))
def test_a_value_that_cannot_be_searched_is_named_with_its_suite(pair, old, new, message):
    change(pair, old, new)
    answer = pair.bench("--suite", "pair", "--dry-run")
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS.values(), ids=list(WRONG_OPTIONS))
def test_an_option_that_says_nothing_here_is_refused(pair, options, message):
    answer = pair.bench("--suite", "pair", *options)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert sorted(path.name for path in pair.folder.iterdir()) == ["bench.toml"]


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
def test_an_ordinary_suite_trains_nothing(pair, option):
    answer = pair.bench("--suite", "tiny", option, "3")
    assert answer.code == 2
    assert f"{option}: suite 'tiny' trains nothing: suites with a table 'match' do (pair)" in answer.err


@pytest.mark.parametrize("verb", [["bundle", "-o", "x.tar"], ["bundle", "--rounds", "3", "-o", "x.tar"]])
def test_a_bundle_of_it_is_refused(pair, verb):
    answer = pair.bench(*verb, "--suite", "pair")
    assert answer.code == 2
    assert "suite 'pair' has no cases before it is run" in answer.err


def test_a_suite_of_neither_kind_is_refused(pair):
    pair.add('\n[suites.none]\ndescription = "x"\n')
    with pytest.raises(UsageError, match=r"suites\.none: has neither a matrix, its cases, nor a table"):
        load(pair.config)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(pair):
    answer = pair.bench("--suite", "pair", "--dry-run", "--seeds", "2", "--epochs", "5")
    assert answer.code == 0
    for text in (
        "suite pair: 1 network at the time of hybrid/cccc 32 fp32 onnxruntime, depth 4",
        "search: depth 4 to 6, then hidden 90 to 110 where none is within 2 %; 4 to 32 pairs of rounds",
        "last run: 3 rounds of 2 networks in turns, judged within 3 %",
        "training: 2 networks x 2 seeds x 5 epochs = 20 epochs of 1433 digits",
    ):
        assert text in answer.out
    told = json.loads(pair.bench("--suite", "pair", "--dry-run", "--json").out)
    assert (told["suite"], told["models"], told["trainings"]) == ("pair", ["hybrid/ccct"], 0)
    assert told["seconds_at_least"] == pytest.approx(0.15 * (2 * 4 + 3 * 2))
    assert sorted(path.name for path in pair.folder.iterdir()) == ["bench.toml"]


def test_the_verb_and_the_suite_ask_for_the_same(pair):
    by_suite = pair.bench("--suite", "pair", "--threads", "2", "--dry-run", "--json")
    by_verb = pair.bench("match", "--suite", "pair", "--threads", "2", "--dry-run", "--json")
    assert by_suite.out == by_verb.out
    assert "2 threads" in by_verb.out


def test_another_reference_changes_places_with_the_suites(pair):
    answer = pair.bench("match", "--suite", "pair", "--reference", "hybrid/ccct", "--dry-run", "--json")
    told = json.loads(answer.out)
    assert told["models"] == ["hybrid/cccc"]
    assert told["reference"] == {"model": "hybrid/ccct", "depth": 12}  # the builder's own


def test_it_is_listed_with_the_other_suites(pair):
    assert "Two strategies" in pair.bench("list", "suites").out


def request_of(*argv: str) -> MatchRequest:
    args = arguments(*argv)
    return read(args, load(args.config))


@pytest.mark.parametrize("name", ["blocks-accuracy", "hybrid"])
def test_the_shipped_suites_can_be_searched(name):
    request = request_of("--suite", name)
    family = request.reference.model.name.split("/")[0]
    assert all(model.startswith(f"{family}/") for model in request.models)
    assert request.fine is not None
    assert request.searched_tolerance == pytest.approx(0.02)
    assert (request.tolerance, len(request.recipes)) == (0.03, 3)
    assert request.images == (1433, 364)


def test_the_hybrid_suite_is_in_the_papers_order():
    request = request_of("--suite", "hybrid", "--seeds", "0")
    names = [name.removeprefix("hybrid/") for name in (request.reference.model.name, *request.models)]
    assert names == ["cccc", "ccct", "cctt", "cttt", "chhh", "n1", "n2"]


def test_shipped_suites_have_a_plan_or_a_search():
    config = load(CONFIG)
    for name, suite in config.suites.items():
        if suite.match is not None:
            with pytest.raises(UsageError, match=f"python bench.py --suite {name}"):
                make(config, name, Overrides(), {})


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        (("CC", "CCT", "CCTCCT"), "C×2 | C×2 + T | (C×2 + T)×2"),
        (("C", "TT", "CCTCT"), "C | T×2 | C + (C + T)×2"),
        (("CCCT", "T", "C"), "C×3 + T | T | C"),
    ],
)
def test_stages_in_one_line(blocks, text):
    modules = {"stem": "stem", "head": "head", "stages.1.9": "downsampling", "stages.0.0.patch_embed": "p"}
    modules |= {f"stages.{i}.{j}": kind for i, stage in enumerate(blocks) for j, kind in enumerate(stage)}
    assert stages_of(modules) == text
    assert stages_of({"stem": "stem"}) == ""


@pytest.mark.slow
def test_a_suite_is_searched_stored_under_its_name_and_reported(pair):
    """With a tolerance that nothing reaches, so that both knobs are searched."""
    torch.set_num_threads(1)
    change(pair, '"4-6"', '"4-4"')
    change(pair, '"90-110"', '"100-101"')
    change(pair, "rounds = 3", "rounds = 3\ntolerance = 0.0001")
    answer = pair.bench("--suite", "pair", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    reference, found = told["networks"]
    assert reference["stages"] == "NCB | NCB | NCB | NCB"
    assert found["stages"] == "NCB | NCB | NCB | NTB"
    assert found["within"] in ("no", "undecided")
    assert "hidden" in found["search"]
    assert told["findings"] == [f"hybrid/ccct: {found['search']}."]
    assert "Networks at the reference" in (pair.folder / "results/pair.html").read_text()
    with Store(pair.folder / "results/bench.db") as store:
        assert store.load_run(told["run_id"]).info.suite == "pair"
