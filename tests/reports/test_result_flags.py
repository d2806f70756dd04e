from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reports.flags import FLAGS, describe, flags, is_simulated
from reports.records import CaseResult
from reports.statistics import summarize
from runners.measurement import Failure


@pytest.fixture
def names(sample):
    """The flags of a block case with these rounds."""

    def found(rounds, *, artifact=None, failure=None, case=None, target=0.01) -> list[str]:
        case = case or sample.block_case("block/ncb", 14, 384)
        result = CaseResult(case, artifact, tuple(rounds), failure, len(rounds))
        return [flag.name for flag in flags(result, summarize(result.measurement, target=target))]

    return found


@pytest.fixture
def quiet(sample):
    return sample.rounds_of(2e6, count=5, between=0.002, seed=1)


def test_a_clean_result_has_no_flag(names, quiet, sample):
    assert (
        names(quiet, artifact=sample.make_artifact(sample.block_case("block/ncb", 14, 384), 0.2, 1.0)) == []
    )


@pytest.mark.parametrize(("spread", "expected"), [(0.06, []), (0.11, ["noisy"]), (0.27, ["invalid"])])
def test_spread_of_samples(names, sample, spread, expected):
    """Half of the samples lie `spread` above the other half, so that is the IQR over the lower median."""
    above = round(100_000 * spread * 1.06)
    samples_ns = 100_000 + np.resize([0, above, above, 0], 60)
    rounds = [sample.make_round(2e6, index=i, samples_ns=samples_ns) for i in range(5)]
    assert names(rounds) == expected


def test_rounds(names, quiet, sample):
    assert names(quiet[:4]) == ["few_rounds"]
    assert names(quiet, target=0.0001) == ["not_converged"]
    assert names(quiet[:1]) == ["not_converged", "few_rounds"]
    unsteady = [*quiet[:4], dataclasses.replace(quiet[4], steady=False, flags=("not_steady",))]
    assert names(unsteady) == ["not_steady"]
    rising = [sample.make_round(2e6 * (1 + 0.01 * i), index=i) for i in range(6)]
    assert "drift" in names(rising, target=0.1)


def test_what_runners_reported_is_shown_and_unknown_flags_too(names, quiet):
    flagged = [*quiet[:4], dataclasses.replace(quiet[4], flags=("throttled", "fan_failed"))]
    assert names(flagged) == ["throttled", "fan_failed"]
    assert describe("fan_failed").meaning == "The runner reported “fan_failed”."


def test_a_disturbed_round_that_was_repeated_is_no_flag(names, quiet, sample):
    disturbed = dataclasses.replace(quiet[4], flags=("disturbed",))
    repeat = dataclasses.replace(quiet[4], attempt=1)
    assert names([*quiet[:4], disturbed, repeat]) == []
    assert names([*quiet[:4], disturbed]) == ["disturbed"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"enqueue": 0.4, "host": 1.4}, []),
        ({"enqueue": 1.1, "host": 1.4}, ["enqueue_bound"]),
        ({"h2d": 0.9, "d2h": 0.2}, []),
        ({"h2d": 1.2, "d2h": 0.2}, ["transfer_bound"]),
        ({"d2h": 1.2}, ["transfer_bound"]),
        ({"enqueue": 2.0, "h2d": 0.1, "d2h": 1.5}, ["enqueue_bound", "transfer_bound"]),
    ],
)
def test_what_was_timed_beside_the_samples(names, quiet, parts, expected):
    """Each part as a share of the samples; the case has one flag where the medians say so."""
    with_parts = [
        dataclasses.replace(
            r, parts={n: (share * r.samples_ns).astype(np.int64) for n, share in parts.items()}
        )
        for r in quiet
    ]
    assert names(with_parts) == expected


def test_artifacts(names, quiet, sample):
    case = sample.block_case("block/ncb", 14, 384)
    broken = sample.make_artifact(case, 0.2, 1.0, passed=False)
    assert names(quiet, artifact=broken) == ["parity_failed"]
    left = dataclasses.replace(sample.make_artifact(case, 0.2, 1.0), batchnorms_left=2)
    assert names(quiet, artifact=left) == ["batchnorms_left"]
    unfused = sample.block_case("block/ncb", 14, 384, fused=False)
    assert names(quiet, artifact=sample.make_artifact(unfused, 0.2, 1.0), case=unfused) == []


def test_a_mixture_of_precisions_is_said(names, quiet, sample):
    artifact = sample.make_artifact(sample.block_case("block/ncb", 14, 384), 0.2, 1.0)
    mixed = dataclasses.replace(artifact, precision="fp16", facts={"macs_fp16_percent": 60.0})
    assert names(quiet, artifact=mixed) == ["mixed_precision"]
    pure = dataclasses.replace(artifact, precision="fp16", facts={"macs_fp16_percent": 99.6})
    assert names(quiet, artifact=pure) == []


def test_parity_that_is_not_a_number_failed(names, quiet, sample):
    artifact = sample.make_artifact(sample.block_case("block/ncb", 14, 384), 0.2, 1.0)
    parity = dataclasses.replace(artifact.parity, max_relative=float("nan"))
    steps = (*artifact.steps[:-1], dataclasses.replace(artifact.steps[-1], parity=parity))
    assert names(quiet, artifact=dataclasses.replace(artifact, steps=steps)) == ["parity_failed"]


def test_a_failure_after_rounds_and_a_change_of_protocol(names, quiet, sample):
    assert names(quiet, failure=Failure("crashed", "signal 11", signal=11)) == ["later_failure"]
    older = [
        dataclasses.replace(r, round_index=i + 10, protocol=sample.protocol(threads=2))
        for i, r in enumerate(quiet)
    ]
    assert names([*older, *quiet]) == ["mixed_protocols"]


@pytest.mark.parametrize(
    ("backend", "expected"), [("simulated", True), ("null", True), ("onnxruntime", False)]
)
def test_simulated_backends(sample, quiet, backend, expected):
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384), backend=backend)
    assert is_simulated(CaseResult(case, None, quiet, None, 5)) is expected


def test_a_simulated_clock_is_enough(sample, quiet):
    protocol = dataclasses.replace(sample.protocol(), clock="simulated")
    rounds = tuple(dataclasses.replace(r, protocol=protocol) for r in quiet)
    assert is_simulated(CaseResult(sample.block_case("block/ncb", 14, 384), None, rounds, None, 5))


def test_the_flags_of_the_rules_are_all_known_and_told_in_one_sentence_each():
    wanted = (
        "noisy invalid throttled disturbed not_steady not_converged enqueue_bound transfer_bound"
        " parity_failed precision_mismatch"
    )
    assert set(wanted.split()) <= set(FLAGS)
    for flag in FLAGS.values():
        assert flag.meaning.endswith(".")
        assert flag.advice.endswith(".")
        assert ". " not in flag.advice
    assert len({flag.symbol for flag in FLAGS.values()}) == len(FLAGS)
