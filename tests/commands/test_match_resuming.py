"""A suite that is searched by latency is gone on with: only what the store lacks is measured and trained."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest
import torch

from commands.config import load
from commands.match_request import MatchRequest, Setting, read
from commands.match_run import plan_digest
from commands.match_training import Training, Trainings, surroundings, training_digest
from commands.run import add_arguments
from models.spec import ModelSpec
from reports.match_found import MATCH, FoundNetwork, MatchFound
from reports.progress import Progress
from reports.store import Store
from runners import environment
from runners.measurement import Failure
from tests.reports.evaluated import evaluation

SMALL = """
[suites.small]
description = "Two small networks"

[suites.small.timing]
round_seconds = 0.05
warmup_seconds = 0.0
min_samples = 2

[suites.small.match]
reference = "blocknet/poolformer"
reference_setting = 3
models = ["blocknet/bottleneck"]
settings = "3-3"
tolerance = 0.6
rounds = 2
seeds = 1
epochs = 1
"""


@pytest.fixture
def small(project):
    project.add(SMALL)
    return project


def request_of(small, *argv: str) -> MatchRequest:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--suite", "small", "--config", str(small.config), *argv])
    return read(args, load(args.config))


def begin(small, stored, *argv: str, learned: int = 0, failed: bool = False) -> list[str]:
    """A run as a search leaves it that ended before its trainings, `learned` of which are there.

    With made-up rounds; gives the trainings' digests.
    """
    request = request_of(small, *argv)
    around = surroundings() if request.recipes else {}
    cases = [request.reference, request.case(request.models[0], Setting("depth", 3))]
    digests = [[training_digest(case.model, recipe, around) for recipe in request.recipes] for case in cases]
    networks = tuple(
        FoundNetwork(case.id, 3, trainings=tuple(own)) for case, own in zip(cases, digests, strict=True)
    )
    machine = environment.describe_machine()
    with Store(small.folder / "results/bench.db") as store:
        info = store.begin_run(
            suite="small", plan_digest=plan_digest(request, machine, around), seed=0, command="",
            config={"timing": {"target": 0.5}, MATCH: MatchFound("depth", 0.6, networks).to_dict()},
            environment=machine, cases=cases,
        )  # fmt: skip
        for case, median_ns in zip(cases, (2e6, 2.1e6), strict=True):
            for index in range(request.rounds):
                store.append(info.run_id, case.id, stored.taken(median_ns, index), artifact=None)
        if failed:
            store.append(info.run_id, cases[1].id, Failure("crashed", "it crashed", ""), artifact=None)
        for case, own in list(zip(cases, digests, strict=True))[:learned]:
            one = evaluation(case.model, right=60, count=100, kind="checkpoint", data="digits")
            store.add_evaluation(replace(one, file=replace(one.file, training=own[0])))
    return [one for own in digests for one in own]


def test_only_what_is_missing_is_trained_and_the_report_is_of_the_store(small, stored):
    torch.set_num_threads(1)
    digests = begin(small, stored, learned=1)
    answer = small.bench("--suite", "small", "--json")
    assert answer.code == 0, answer.err
    assert "resuming run 1" in answer.err
    assert "blocknet/poolformer depth 3, seed 0: top-1 60.00 %, from the store" in answer.err
    assert "converting" not in answer.err
    assert "measuring" not in answer.err
    told = json.loads(answer.out)
    reference, found = told["networks"]
    assert reference["top1"] == [0.6]
    assert (len(found["top1"]), found["accuracy"]["images"], found["trainings"]) == (1, 364, 1)
    page = small.folder / "results/small.html"
    suites = page.read_bytes()
    with Store(small.folder / "results/bench.db") as store:
        assert [one.file.training for one in store.evaluations()] == digests
        last = store.evaluations()[-1]
        run = store.load_run(1)
    assert run.info.finished_at_ns is not None
    assert "training_ns" in run.sessions[-1].ledger
    assert (last.file.kind, last.images.name, last.count) == ("checkpoint", "digits", 364)
    assert last.top1.value == found["top1"][0]

    again = small.bench("--suite", "small", "--json")
    assert again.code == 0
    assert "run 1 of " in again.err
    assert "holds 2 networks and 2 trainings: shown from the store; --fresh" in again.err
    assert json.loads(again.out) == told
    report = small.bench("report", "--json")
    assert json.loads(report.out)["matched"]["networks"] == told["networks"]
    assert page.read_bytes() == suites
    assert '<section id="matched">' in page.read_text()
    with Store(small.folder / "results/bench.db") as store:
        assert len(store.evaluations()) == 2
        assert len(store.runs()) == 1


def test_another_run_takes_trainings_over_and_failed_ones_cost_one_network(small, stored, capsys):
    """Nothing is trained here: one is known, and one cannot begin, as it has too few images for a batch."""
    request = request_of(small)
    (digest, _) = begin(small, stored, learned=1)
    (recipe,) = request.recipes
    other = ModelSpec.of("blocknet/bottleneck", resolution=32, depth=3)
    too_large = recipe.model_copy(update={"batch_size": 4000})
    wanted = [Training(other, too_large, "unknown"), Training(request.reference.model, recipe, digest)]
    with Store(small.folder / "results/bench.db") as store, Progress() as progress:
        known = {one.file.training: one for one in store.load_run(1).trainings}
        failures = Trainings(store, progress, "", 60).learn(wanted, known)
        assert len(store.evaluations()) == 1
    assert list(failures) == ["blocknet/bottleneck"]
    assert failures["blocknet/bottleneck"].startswith("seed 0: batch_size=4000: digits has 1433 images")
    assert "seed 0: top-1 60.00 %, from the store" in capsys.readouterr().err


def test_a_trainings_digest_is_all_that_decides_its_numbers(small, monkeypatch):
    request = request_of(small, "--seeds", "2")
    one, other = request.recipes
    model, around = request.reference.model, surroundings()
    usual = training_digest(model, one, around)
    assert usual == training_digest(model, one, surroundings())
    deeper = request.case(model.name, Setting("depth", 4)).model
    assert len({usual, training_digest(model, other, around), training_digest(deeper, one, around)}) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert training_digest(model, one, surroundings()) != usual
    assert set(surroundings()["packages"]) >= {"torch", "timm", "scikit-learn"}


def test_other_values_are_another_run(small):
    machine = environment.describe_machine()

    def plan(*argv: str) -> str:
        return plan_digest(request_of(small, *argv), machine, {})

    usual = plan()
    assert plan("--seeds", "1") == usual
    others = [["--seeds", "2"], ["--epochs", "2"], ["--rounds", "3"], ["--threads", "2"]]
    assert len({usual, *(plan(*argv) for argv in others)}) == 1 + len(others)
    assert plan_digest(request_of(small), machine, {"sources": "edited"}) != usual


@pytest.mark.slow
def test_what_failed_is_measured_again_beside_all_others_without_a_search(small, stored):
    begin(small, stored, "--seeds", "0", failed=True)
    answer = small.bench("--suite", "small", "--seeds", "0", "--json")
    assert answer.code == 0, answer.err
    assert "run 1: a network failed in it: what it found is measured again" in answer.err
    assert "pairs of rounds" not in answer.err
    told = json.loads(answer.out)
    assert told["run_id"] == 2
    assert told["networks"][1]["ratio"]["pairs"] == 2
    with Store(small.folder / "results/bench.db") as store:
        assert store.load_run(2).info.finished_at_ns is not None
