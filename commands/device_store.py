"""What a device's agent told, into the stored run that asked for it: each round once, a failure once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands.resuming import is_known
from runners.measurement import Failure, Round

if TYPE_CHECKING:
    from device_agents.outbox import Origin, Waiting
    from reports.records import RunInfo, StoredRun
    from reports.store import Store


class RunRecord:
    """One run of a store: appended to is only what it has not. `added` counts rounds."""

    def __init__(self, store: Store, info: RunInfo) -> None:
        self.store, self.info = store, info
        self._stored: StoredRun = store.load_run(info.run_id)
        self._done = {(r.case.id, one.round_index) for r in self._stored.results for one in r.rounds}
        self._is_open = info.finished_at_ns is None
        self.added = 0

    @property
    def is_suite(self) -> bool:
        """Made by a suite's command, which wants so many rounds of every case."""
        return "timing" in self.info.config

    def commit(self, waiting: Waiting, outcome: Round | Failure) -> None:
        """Raises StoreError."""
        case_id = waiting.case.id
        if isinstance(outcome, Round):
            if (case_id, outcome.round_index) in self._done:
                return
            self._done.add((case_id, outcome.round_index))
            self.added += 1
        elif is_known(self._stored, case_id, outcome):
            return
        if not self._is_open:
            self.store.reopen_run(self.info.run_id)
            self._is_open = True
        self.store.append(self.info.run_id, case_id, outcome, artifact=waiting.artifact)

    def close(self) -> None:
        """Finish the run where every case has its rounds or a failure."""
        least = self.info.config["timing"]["min_rounds"] if self.is_suite else 1
        results = self.store.load_run(self.info.run_id).results
        if self._is_open and all(result.failure or len(result.rounds) >= least for result in results):
            self.store.finish_run(self.info.run_id)


def run_of(store: Store, origin: Origin | None) -> RunInfo | None:
    """The run that a job was made for, where it is in this store."""
    if origin is None:
        return None
    for info in store.runs():
        if info.run_id == origin.run_id and info.plan_digest == origin.plan_digest:
            return info
    return None
