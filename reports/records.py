"""What the store gives back: runs, their cases in plan order, raw rounds and where the time went."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.artifact import Artifact
from models.spec import Case
from reports.evaluations import Evaluation
from runners.measurement import Failure, Measurement, Round

DEFAULT_TARGET = 0.01
SUITE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")  # a suite names its report's file
BATCHED = "batched"  # in a run's config: true where its cases were measured in batches, one after another
IMPORTED = "imported"  # in a run's config: where a run that came from a file has its own plan digest


@dataclass(frozen=True)
class RunInfo:
    """One run of a suite: what was planned, with which command, where and when (ns since 1970, UTC).

    `finished_at_ns` is None while a run is under way or was interrupted; `case_ids` are in plan order.
    """

    run_id: int
    suite: str
    plan_digest: str
    seed: int
    started_at_ns: int
    finished_at_ns: int | None
    command: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    case_ids: tuple[str, ...]

    @property
    def is_batched(self) -> bool:
        """Were its cases measured in batches, so that those of different ones have no round in common?"""
        return bool(self.config.get(BATCHED))

    @property
    def target(self) -> float:
        """Wanted relative half width of the 95 % interval: `config["timing"]["target"]`, else 1 %."""
        timing = self.config.get("timing")
        value = timing.get("target", DEFAULT_TARGET) if isinstance(timing, Mapping) else DEFAULT_TARGET
        return float(value)


@dataclass(frozen=True)
class Session:
    """One invocation that worked on a run: its wall time and where that went, in nanoseconds.

    A run that was interrupted and resumed has several.
    """

    session_id: int
    run_id: int
    started_at_ns: int
    wall_ns: int
    ledger: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseResult:
    """Everything stored for one case of a run.

    `rounds` are ordered by round index, then attempt. `failure` is the latest failure, and only while no
    round was stored after it. `attempts` counts the stored records, rounds and failures alike.
    """

    case: Case
    artifact: Artifact | None = None
    rounds: tuple[Round, ...] = ()
    failure: Failure | None = None
    attempts: int = 0
    last_protocol_id: str = ""

    @property
    def untimed(self) -> bool:
        """Its file is built, and the device that would time it is elsewhere."""
        failure = self.failure
        return bool(failure and failure.built and failure.kind == "unavailable" and not self.rounds)

    @property
    def measurement(self) -> Measurement | None:
        """The rounds that share the protocol of the last stored round, or None without a round."""
        kept = [r for r in self.rounds if r.protocol.id == self._protocol_id]
        return Measurement(kept[0].protocol, tuple(kept)) if kept else None

    @property
    def other_protocol_rounds(self) -> tuple[Round, ...]:
        """Rounds taken under an earlier protocol (a runtime was updated, say): kept, never averaged in."""
        return tuple(r for r in self.rounds if r.protocol.id != self._protocol_id)

    @property
    def _protocol_id(self) -> str:
        return self.last_protocol_id or (self.rounds[-1].protocol.id if self.rounds else "")


@dataclass(frozen=True)
class StoredRun:
    """A whole run as read from the store, results in plan order.

    `evaluations` are those of its models that the store holds, oldest first, of whatever weights and files.
    `trainings` are those of weights that a suite trained and did not keep: no case ever runs them.
    """

    info: RunInfo
    results: tuple[CaseResult, ...]
    sessions: tuple[Session, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    trainings: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class PublishedLatency:
    """Milliseconds on the authors' own device: `runtime` (`TensorRT`, `Core ML`), `setup` and `source`.

    `error` says how exact a figure is that was read off a plot; empty for one from a table. `error_ms` is
    the same as a number.
    """

    ms: float
    runtime: str
    setup: str
    source: str
    error: str = ""
    error_ms: float = 0.0


@dataclass(frozen=True)
class PublishedFigure:
    """What others published about a model: shown beside our measurement, never mixed with it.

    `model` is a case's model name, `resolution` the input side; `top1` ImageNet-1K accuracy in percent, and
    `source` where it stands; `family` the name of the architecture's family.
    """

    model: str
    resolution: int
    source: str
    top1: float | None = None
    latencies: tuple[PublishedLatency, ...] = ()
    family: str = ""


def by_network(published: Iterable[PublishedFigure]) -> dict[tuple[str, int], PublishedFigure]:
    """By model name and resolution."""
    return {(figure.model, figure.resolution): figure for figure in published}


@dataclass(frozen=True)
class PublishedPoint:
    """A network of somebody's accuracy-latency figure, by the name that it has there, whether measured here
    or not.

    `model` is its name among the run's cases, empty where the run has none of it. `setting` is what it was
    trained on; `params_m` may come from another source than the latency. Where `metric` names another measure
    than ImageNet top-1, `top1` is that of the network as a backbone, and no `resolution` is told (0).
    """

    network: str
    family: str
    resolution: int
    top1: float
    latency: PublishedLatency
    setting: str
    params_m: float | None = None
    model: str = ""
    metric: str = ""
