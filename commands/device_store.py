"""The run of a store that a device's jobs were made for, and when it has all that it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commands.recording import Recording
    from device_agents.outbox import Origin
    from reports.records import RunInfo
    from reports.store import Store


def finish_if_complete(recording: Recording) -> None:
    """Where every case has its rounds or a failure. Raises StoreError.

    A suite's run wants so many rounds of each; of jobs alone any number will do.
    """
    info = recording.info
    least = info.config["timing"]["min_rounds"] if "timing" in info.config else 1
    results = recording.store.load_run(info.run_id).results
    if recording.is_open and all(result.failure or len(result.rounds) >= least for result in results):
        recording.store.finish_run(info.run_id)


def run_of(store: Store, origin: Origin | None) -> RunInfo | None:
    """The run that a job was made for, where it is in this store."""
    if origin is None:
        return None
    for info in store.runs():
        if info.run_id == origin.run_id and info.plan_digest == origin.plan_digest:
            return info
    return None
