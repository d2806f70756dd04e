"""A stored run of networks that were searched by latency, with what they learned: from the store alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.evaluations import Evaluation
from reports.match_found import FoundNetwork, MatchFound, found_of
from reports.matched import Matched, document, section
from reports.network_stages import stages_of
from reports.records import CaseResult, StoredRun
from reports.sections import Section
from reports.verdicts import Comparison, compare


def matched_of(run: StoredRun) -> tuple[Matched, ...]:
    """The networks, the reference first; none for a run that no search was made for.

    Of several evaluations of one training the newest counts. Raises FormError (`found_of`).
    """
    found = found_of(run.info)
    if found is None:
        return ()
    results = {result.case.id: result for result in run.results}
    learned = {one.file.training: one for one in run.trainings}
    reference = results[found.networks[0].case_id]
    return tuple(
        _matched(found, network, results[network.case_id], reference, learned) for network in found.networks
    )


def title_of(run: StoredRun) -> str:
    """`hybrid: within 3 % of the time of hybrid/cccc 32 fp32 onnxruntime`; empty without a search."""
    found = found_of(run.info)
    if found is None:
        return ""
    reference = next(r.case for r in run.results if r.case.id == found.networks[0].case_id)
    return title(run.info.suite, found.tolerance, reference.label)


def title(suite: str, tolerance: float, reference: str) -> str:
    """`reference` is the label of its case."""
    return f"{suite}: within {100 * tolerance:g} % of the time of {reference}"


def matched_sections(run: StoredRun) -> list[Section]:
    """The section of the run's report; none without a search."""
    matched = matched_of(run)
    return [section(matched, title_of(run))] if matched else []


def documents(run: StoredRun) -> dict[str, Any]:
    """For JSON: `matched` with the networks and what is found of them; nothing without a search."""
    matched = matched_of(run)
    return {"matched": document(matched)} if matched else {}


def failures_of(run: StoredRun) -> dict[str, str]:
    """By network, why no setting of it was found, or why it could not be measured."""
    found = found_of(run.info)
    failed = {r.case.model.name: r.failure.message for r in run.results if r.failure}
    return {**found.failures, **failed} if found else failed


def _matched(
    found: MatchFound,
    network: FoundNetwork,
    result: CaseResult,
    reference: CaseResult,
    learned: Mapping[str, Evaluation],
) -> Matched:
    ended = [learned[training] for training in network.trainings if training in learned]
    return Matched(
        result.case.model.name,
        found.knob,
        network.setting,
        network.finding,
        _compared(result, reference, found.tolerance),
        tuple(one.top1.value for one in ended),
        is_reference=result is reference,
        fine=network.fine,
        images=ended[0].count if ended else 0,
        stages=stages_of(result.artifact.modules) if result.artifact else "",
        trainings=len(network.trainings),
    )


def _compared(result: CaseResult, reference: CaseResult, tolerance: float) -> Comparison | None:
    """By the rounds of the run; None for the reference itself, and where one of the two has none."""
    one, other = result.measurement, reference.measurement
    if result is reference or one is None or other is None:
        return None
    return compare(one, other, delta=tolerance, paired=True, force=True)
