"""Which evaluation tells a measured case's accuracy, and how an accuracy with its interval is written.

Published accuracies are of others' weights. A case has a measured one only if what was evaluated is what it
runs: the same file, or the same network with the same weights in the same precision, run by the same runtime
where that decides how it is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.accuracy import Figures, Network
from reports.evaluations import Evaluation, Share
from reports.records import CaseResult, StoredRun
from reports.tables import Facet, RunTable, fused_facets

QUANTIZED = "int8"  # what a calibration makes of a network depends on more than its name
EXACT = "fp32"  # what any runtime computes alike; others round in their own ways
# The one program that evaluates what another runs: Core ML itself evaluates nothing here.
STANDS_FOR = {"interpreter": "coreml"}


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """Networks of one group whose accuracy was measured on the same images."""

    data: str
    facet: Facet
    networks: list[Network]


def is_of(evaluation: Evaluation, result: CaseResult) -> bool:
    """Whether what was evaluated computes what the case runs.

    fp32 is fp32 in any file and runtime; what another precision makes of a network depends on the runtime,
    which may share the file with others, and on the kind of file; a quantized one only speaks for itself. A
    case of somebody's ONNX file is that file. A case whose runtime computes in another precision than its
    file holds (OpenVINO in bf16) has none: no evaluation does that.
    """
    file, case, artifact = evaluation.file, result.case, result.artifact
    if file.precision != case.precision or (artifact and artifact.precision != case.precision):
        return False
    if file.precision != EXACT and STANDS_FOR.get(file.run_by, file.run_by) != case.backend:
        return False
    if artifact is not None and file.key and file.key == artifact.key:
        return True
    own = case.model.is_file and case.model.weights == f"sha256:{file.sha256}"
    if not own and file.model != case.model:
        return False
    same_kind = artifact is not None and artifact.kind == file.kind
    return file.precision == EXACT or (same_kind and (own or file.precision != QUANTIZED))


def newest(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """One of each file, runtime and set of images, in the order in which they were first evaluated."""
    found = {(e.file.sha256, e.file.tool, e.images.identity, e.images.transform): e for e in evaluations}
    return list(found.values())


def of_case(result: CaseResult, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The newest evaluation of a case on each set of images; its own file's before another's."""
    found: dict[tuple[str, str, str], Evaluation] = {}
    for evaluation in sorted(
        (e for e in evaluations if is_of(e, result)), key=lambda e: _closeness(e, result)
    ):
        found[evaluation.images.identity] = evaluation
    return list(found.values())


def groups(table: RunTable, evaluations: Sequence[Evaluation], figures: Figures) -> list[MeasuredGroup]:
    """By set of images, then by group: who has a rank and a measured accuracy. `figures` tell families."""
    found: dict[tuple[str, str, str], list[MeasuredGroup]] = {}
    titles = titled(evaluations)
    for facet in fused_facets(table):
        by_set: dict[tuple[str, str, str], list[Network]] = {}
        for row in facet.ranked:
            figure = figures.get((row.case.model.name, row.case.model.resolution))
            for evaluation in of_case(row.result, evaluations):
                network = Network(row, figure, evaluation)
                by_set.setdefault(evaluation.images.identity, []).append(network)
        for identity, networks in by_set.items():
            found.setdefault(identity, []).append(MeasuredGroup(titles[identity], facet, networks))
    return [group for some in found.values() for group in some]


def titled(evaluations: Iterable[Evaluation]) -> dict[tuple[str, str, str], str]:
    """What each set of images is called: by its digest too, where two have one name."""
    sets = {e.images.identity: e.data for e in evaluations}
    names = list(sets.values())
    return {
        identity: f"{name} {identity[2][:6]}" if names.count(name) > 1 else name
        for identity, name in sets.items()
    }


def share_text(share: Share) -> str:
    """`97.22 % [95.0, 98.5], 350 of 360`."""
    low, high = share.interval
    return f"{100 * share.value:.2f} % [{100 * low:.1f}, {100 * high:.1f}], {share.hits:,} of {share.count:,}"


def agreement_text(evaluation: Evaluation) -> str:
    """`99.44 % [...], 358 of 360; 2 lost and 0 gained against eager`."""
    assert evaluation.agreement is not None
    changed = f"{evaluation.lost:,} lost and {evaluation.gained:,} gained against eager"
    return f"{share_text(evaluation.agreement)}; {changed}"


def evaluation_documents(run: StoredRun) -> list[dict[str, object]]:
    """The newest evaluations of a run's models, each with the ids of the cases that it speaks for."""
    return [
        {**one.to_dict(), "case_ids": [result.case.id for result in run.results if is_of(one, result)]}
        for one in newest(run.evaluations)
    ]


def case_documents(result: CaseResult, evaluations: Sequence[Evaluation]) -> list[dict[str, object]]:
    """The measured accuracies of a case, in short."""
    return [
        {
            "data": e.data,
            "images_sha256": e.images.sha256,
            "count": e.count,
            "skipped": e.images.skipped,
            "artifact_sha256": e.file.sha256,
            "top1": e.top1.to_dict(),
            "top5": e.top5.to_dict() if e.top5 else None,
            "agreement": e.agreement.to_dict() if e.agreement else None,
        }
        for e in of_case(result, evaluations)
    ]


def _closeness(evaluation: Evaluation, result: CaseResult) -> tuple[bool, int]:
    own = result.artifact is not None and evaluation.file.key == result.artifact.key
    return own, evaluation.evaluated_at_ns
