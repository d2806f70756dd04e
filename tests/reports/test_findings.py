from __future__ import annotations

import dataclasses

import pytest

from reports import findings
from reports.records import CaseResult
from reports.tables import build
from runners.measurement import Failure


@pytest.fixture
def block_run(sample):
    """A run of blocks at given milliseconds: {(name, side): ms}."""

    def make(times, **options):
        results = []
        for seed, ((name, side), ms) in enumerate(times.items()):
            case = sample.block_case(f"block/{name}", side, 384)
            results.append(sample.measured(case, 0.2, 1.0, 200.0 / ms, seed=seed, between=0.002, **options))
        return sample.run_of(results)

    return make


def headline(run) -> str:
    return findings.headline(build(run))


def test_one_group_names_the_lead_with_its_interval(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("convnext", 14): 2.47}))
    assert text.startswith("At 14x14x384, ncb takes 1.9")
    assert text.endswith("] faster than convnext.")
    assert "1.298× [1.291, 1.305]" in text


def test_a_small_lead_is_in_percent(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("convnext", 14): 1.95}))
    assert " % [" in text
    assert text.endswith("%] faster than convnext.")


def test_a_tie_is_said_and_the_next_named(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("ntb", 14): 1.9, ("lsa", 14): 3.0}))
    assert text.startswith("At 14x14x384, n")
    assert ", a tie with n" in text
    assert " inside the noise; it is 1.5" in text
    assert text.endswith("faster than lsa.")


def test_a_tie_of_all_claims_no_lead(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("ntb", 14): 1.9}))
    assert "faster" not in text


def test_a_single_case_is_stated_alone(block_run):
    text = headline(block_run({("ncb", 14): 1.9}))
    assert text.startswith("At 14x14x384, ncb takes 1.9")
    assert "faster" not in text


def test_one_winner_everywhere(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("lsa", 14): 2.5, ("ncb", 7): 1.0, ("lsa", 7): 1.2}))
    assert text.startswith("ncb is the fastest block at both shapes, by at least 1.198× [")
    assert text.endswith("(over lsa, at 7x7x384).")


def test_different_winners(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("lsa", 14): 2.5, ("ncb", 7): 1.3, ("lsa", 7): 1.0}))
    assert text == "No single block is fastest everywhere: ncb at 14x14x384; lsa at 7x7x384."


def test_of_many_groups_the_winners_are_counted(block_run):
    """ncb leads 4 of 8, lsa 3 and ntb 1; the names of many groups would hide who wins."""
    sides = {7: "ncb", 8: "ncb", 10: "ncb", 12: "ncb", 14: "lsa", 16: "lsa", 20: "lsa", 28: "ntb"}
    times = {
        (name, side): 1.0 if name == best else 1.5
        for side, best in sides.items()
        for name in ("ncb", "lsa", "ntb")
    }
    assert headline(block_run(times)) == (
        "No single block is fastest everywhere: ncb in 4 of 8 groups; lsa in 3 of 8 groups; ntb at 28x28x384."
    )
    best_of = {7: "ncb", 8: "ncb", 10: "ntb", 12: "lsa", 14: "convnext", 16: "mhca", 20: "ffn"}
    names = dict.fromkeys(best_of.values())
    times = {(n, side): 1.0 if n == best else 1.5 for side, best in best_of.items() for n in names}
    text = headline(block_run(times))
    assert text.startswith("No single block is fastest everywhere: ncb in 2 of 7 groups; ")
    assert text.endswith("; others or ties in 3 groups.")


def test_never_beaten(block_run):
    text = headline(block_run({("ncb", 14): 1.9, ("lsa", 14): 2.5, ("ncb", 7): 1.0, ("lsa", 7): 1.0}))
    assert text == "No block beats ncb: it leads at 14x14x384, and ties with lsa at 7x7x384."


def test_what_differs_by_the_noise_alone_has_no_winner(blocks_run):
    """bottleneck, mobileone and ncb are within 1.1 % of each other."""
    assert headline(blocks_run) == (
        "No single block is fastest everywhere: a tie of bottleneck, mobileone and ncb"
        " at 56x56x96, 28x28x192, 14x14x384 and 7x7x768."
    )


def test_networks_on_several_backends(networks_run):
    text = headline(networks_run)
    assert text.startswith("mobilenetv2_100 is the fastest network on both backends, by at least 2.3")


def test_nothing_measured(sample):
    cases = [sample.block_case(f"block/{name}", 14, 384) for name in ("ncb", "ntb", "lsa")]
    failures = [Failure("unavailable", "no GPU", built=True)] * 2 + [Failure("conversion", "no op")]
    results = [CaseResult(c, None, (), f, 1) for c, f in zip(cases, failures, strict=True)]
    assert headline(sample.run_of(results)) == (
        "Nothing was measured: 1 of 3 cases failed, conversion (1); 2 artifacts built but not timed."
    )


def test_nothing_reached_and_nothing_planned(sample):
    waiting = CaseResult(sample.block_case("block/ncb", 14, 384))
    assert headline(sample.run_of([waiting])) == "Nothing was measured yet: 1 case planned."
    assert headline(sample.run_of([])) == "Nothing was measured yet: 0 cases planned."


def test_only_doubtful_results(sample, block_run):
    (result,) = block_run({("ncb", 14): 1.9}).results
    broken = dataclasses.replace(result, artifact=sample.make_artifact(result.case, 0.2, 1.0, passed=False))
    assert headline(sample.run_of([broken])) == (
        "No result can be ranked: every measured case is flagged parity failed."
    )


def test_flops_that_predict_perfectly_have_no_inversion(sample):
    results = [
        sample.measured(sample.block_case(f"block/{n}", 14, 384), gmacs, gmacs, 100.0, seed=i)
        for i, (n, gmacs) in enumerate({"ncb": 0.1, "ntb": 0.2, "lsa": 0.3, "convnext": 0.4}.items())
    ]
    (facet,) = build(sample.run_of(results)).facets
    agreement = findings.cost_agreement(facet, "gmacs")
    assert agreement.tau == pytest.approx(1.0)
    assert (agreement.inverted_pairs, agreement.pairs) == (0, 6)


def test_inversions_are_named_with_both_ratios(sample):
    facts = {"ncb": (0.2, 100.0), "ntb": (0.1, 25.0), "lsa": (0.4, 100.0)}  # GMACs, GMAC/s: 2, 4, 4 ms
    results = [
        sample.measured(sample.block_case(f"block/{n}", 14, 384), gmacs, 1.0, rate, seed=i, between=0.002)
        for i, (n, (gmacs, rate)) in enumerate(facts.items())
    ]
    (facet,) = build(sample.run_of(results)).facets
    agreement = findings.cost_agreement(facet, "gmacs")
    (worst,) = agreement.inversions
    text = findings.describe_inversion(worst, "GMACs")
    assert text.startswith("ntb has 0.500× the GMACs of ncb but takes 2.0")
    assert text.endswith("] as long.")
    assert agreement.tau == pytest.approx(0.0)  # one pair right, one wrong, and a tie inside the noise


def test_costs_need_three_cases(block_run):
    (facet,) = build(block_run({("ncb", 14): 1.9, ("ntb", 14): 2.5})).facets
    assert findings.cost_agreement(facet, "gmacs") is None


def test_equal_costs_have_no_correlation(block_run):
    (facet,) = build(block_run({("ncb", 14): 1.9, ("ntb", 14): 2.5, ("lsa", 14): 3.0})).facets
    agreement = findings.cost_agreement(facet, "gmacs")
    assert agreement.tau is None
    assert findings.describe_agreements([(facet, agreement)], "GMACs").startswith("GMACs have nothing")


def test_agreements_span_all_groups_and_worst_pairs_are_named_once(blocks_run):
    table = build(blocks_run)
    found = [(f, findings.cost_agreement(f, "gmacs")) for f in table.facets]
    text = findings.describe_agreements(found, "GMACs")
    assert text.startswith("GMACs order the latencies with Kendall τ from 0.")
    worst = findings.worst_inversions(found)
    assert len(worst) == 3
    assert len({(i.small.label, i.large.label) for _, i in worst}) == 3
