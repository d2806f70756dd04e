"""A small job, a simulated phone and a host, wired together without waiting."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_agents.bodies import RoundTaken, body_of
from device_agents.host import Host, Outbox, Taken
from device_agents.simulated_phone import Fault, SimulatedPhone
from tests.device_agents.small_job import make_job


@dataclass
class Bench:
    """A host's folder and a phone; `run` is one command of the user."""

    folder: Path
    faults: tuple[Fault, ...] = ()
    changes: dict[str, object] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.job, self.files = make_job(self.folder / "files", **self.changes)
        self.phone = SimulatedPhone(self.folder / "phone", self.faults)

    def run(self) -> Taken:
        clock = itertools.count()
        host = Host(
            self.phone,
            self.phone.devices()[0],
            observe=self._observe,
            sleep=lambda seconds: None,
            clock_s=lambda: float(next(clock)),
        )
        return host.run(Outbox(self.folder / "outbox" / self.job.job_id, self.job), self.files)

    def _observe(self, entry) -> None:
        body = body_of(entry)
        if isinstance(body, RoundTaken):
            self.told.append(body.round_index)


@pytest.fixture
def bench(tmp_path):
    return lambda *faults, name="bench", **changes: Bench(tmp_path / name, faults, changes)
