"""`selftest`: what a trial says of known cases, and the command on a backend that only sleeps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from commands import selftest, trials
from commands.trials import Trial
from reports.rounds import round_logs
from runners.measurement import Measurement, Phases, Protocol, Round, Timing
from tests.busy_cores import busy_cores

PROTOCOL = Protocol("null", "r", "cpu", 1, "host", "", "", "", "", 0)
MS = 1_000_000


def measurement(logs, *, first=0) -> Measurement:
    """Rounds whose medians are 1 ms times exp(log)."""
    rounds = []
    for index, log in enumerate(logs, start=first):
        samples = np.full(5, round(MS * math.exp(log)), np.int64)
        rounds.append(
            Round(index, 0, 0, PROTOCOL, 1, samples, samples, True, 0.0, Phases(), 1_000_000_000 * index)
        )
    return Measurement(PROTOCOL, tuple(rounds))


def trial(spread: float, *, rounds: int = 12, seed: int = 0, wander: float = 0.0) -> Trial:
    """Three equal cases and one that waits 2 % longer; `wander` moves a whole pass."""
    random = np.random.default_rng(seed)
    passes = random.normal(0, wander, rounds)
    names = {"a": 0, "b": 0, "c": 0, "slow": MS // 50}
    measured = {
        name: measurement(passes + random.normal(0, spread, rounds) + math.log1p(wait_ns / MS))
        for name, wait_ns in names.items()
    }
    return Trial(measured, names)


def test_the_truth_comes_from_the_wait_and_the_equal_cases():
    found = trial(0.0)
    assert found.copies == ["a", "b", "c"]
    assert found.slowed == ["slow"]
    assert found.typical_ns == pytest.approx(MS)
    assert found.true_ratio("slow") == pytest.approx(1.02)
    comparison = found.compared("slow", "a", delta=0.0)
    assert comparison is not None
    assert comparison.ratio.value == pytest.approx(1.02, abs=1e-5)
    assert comparison.verdict == "slower"


def test_every_pair_of_equal_cases_is_compared():
    pairs = trial(0.003).equal_pairs(delta=0.01)
    assert len(pairs) == 3
    assert not any(found.differs for found in pairs)


def test_the_spread_is_that_of_paired_rounds_and_not_of_what_moves_a_whole_pass():
    found = [trials.paired_spread(trial(0.004, rounds=200, wander=0.05, seed=seed)) for seed in range(5)]
    assert found == pytest.approx([math.sqrt(2) * 0.004] * 5, rel=0.1)


def test_no_spread_without_two_common_passes_and_two_cases():
    one = measurement([0.0, 0.1])
    assert trials.paired_spread(Trial({"a": one}, {"a": 0})) is None
    later = measurement([0.0, 0.1], first=1)
    assert trials.paired_spread(Trial({"a": one, "b": later}, {"a": 0, "b": 0})) is None
    assert trials.noise_floor(None, 20) is None
    assert trials.noise_floor(0.01, 1) is None


@pytest.mark.parametrize("rounds", [5, 8, 20])
def test_at_the_noise_floor_four_of_five_differences_are_found(rounds):
    spread = 0.01
    floor = trials.noise_floor(spread, rounds)
    assert floor is not None
    random = np.random.default_rng(rounds)
    found = 0
    for _ in range(400):
        one = measurement(random.normal(math.log1p(floor), spread, rounds))
        comparison = trials.compare(one, measurement([0.0] * rounds), delta=0.0, paired=True)
        found += comparison is not None and comparison.verdict == "slower"
    assert 0.72 <= found / 400 <= 0.88


def test_where_the_default_budget_would_have_stopped():
    timing = Timing(min_rounds=3, max_rounds=6)
    whole = measurement([0.0] * 10)
    assert trials.rounds_until_converged(whole, timing, lambda rounds: True) == 3
    assert trials.rounds_until_converged(whole, timing, lambda rounds: len(rounds) >= 5) == 5
    assert trials.rounds_until_converged(whole, timing, lambda rounds: False) == 6
    assert len(round_logs(whole)) == 10


@pytest.fixture
def short(project):
    """A project whose rounds are short enough for a test."""
    text = project.config.read_text().replace("warmup_seconds = 0.0", "warmup_seconds = 0.01")
    project.config.write_text(text)
    return project


def test_selftest_on_a_backend_that_sleeps(short, monkeypatch):
    monkeypatch.setattr(selftest, "MOST_ROUNDS", 2)
    answer = short.bench("selftest", "--backend", "null", "--seconds", "600", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["schema"] == 1
    assert told["typical_ns"] >= 2 * MS
    assert len(told["equal"]) == 3
    ratios = [one["true_ratio"] for one in told["slowed"]]
    assert ratios == sorted(ratios)
    assert ratios[0] > 1.0
    assert 12 <= told["rounds"] <= 24, "two rounds of six cases, each repeated once at most"
    assert told["rounds"] == 12 or told["disturbed_rounds"]
    assert told["resolves_1_percent"] == (told["noise_floor"] is not None and told["noise_floor"] <= 0.01)
    assert not list(short.folder.rglob("*.db")), "the store is thrown away"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seconds", "1"], "at least 5"),
        (["--seconds", "soon"], "'soon' is not a number of seconds"),
        (["--backend", "onnxruntim"], "onnxruntime"),
        (["--backend", "simulated"], "its time does not pass on this machine's clock"),
        (["--backend", "trt"], "its time does not pass on this machine's clock"),
    ],
)
def test_what_selftest_cannot_do_is_bad_input(short, argv, message):
    answer = short.bench("selftest", *argv)
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""


def test_sentences_for_too_few_rounds():
    from commands.selftest import Outcome, _sentences

    said = " ".join(_sentences(Outcome("null", "x", trial(0.001, rounds=2), 20, None, 1.0, 0.06)))
    assert "too few" in said
    assert "nan" not in said


def test_whole_rounds_where_turns_are_not_wanted(short, monkeypatch):
    monkeypatch.setattr(selftest, "MOST_ROUNDS", 2)
    for words, seconds in ((["--turns", "0"], 0.0), (["--turns", "0.02"], 0.02)):
        answer = short.bench("selftest", "--backend", "null", "--seconds", "600", "--json", *words)
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["turn_seconds"] == seconds


@pytest.mark.parametrize("turns", ["-1", "soon", "9"])
def test_turns_that_make_no_round(short, turns):
    answer = short.bench("selftest", "--backend", "null", "--turns", turns)
    assert answer.code == 2
    assert "turn" in answer.err


def test_the_background_load_of_the_validation_ends_with_it():
    import psutil

    before = set(psutil.Process().children())
    with busy_cores():
        during = set(psutil.Process().children()) - before
        assert during
    assert not any(one.is_running() for one in during)
