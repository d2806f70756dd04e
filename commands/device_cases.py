"""A suite's cases that agents of devices measure: jobs in the outbox, run now where a device is here."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands import artifacts, options
from commands.device_hosts import SeveralDevicesError, connect, only_one_on
from commands.device_progress import DeviceProgress
from commands.devices import driver_of
from commands.timing import comparison
from converters.artifact import Artifact
from device_agents import archive
from device_agents import outbox as outboxes
from device_agents.host import Host
from device_agents.interleaved import Turns
from device_agents.job import DeviceTiming
from device_agents.outbox import Origin, Sent, Waiting
from device_agents.problems import DeviceProblem
from models.spec import Case
from reports.progress import Progress
from reports.records import RunInfo
from runners.measurement import Failure, Round, Timing
from runners.runner import RunnerError
from runners.verify import read_tensors

if TYPE_CHECKING:
    from device_agents.drivers import DriverInfo

Commit = Callable[[str, Round | Failure], None]
AWAY = ("tool_missing", "unplugged")


@dataclass(frozen=True)
class DeviceCases:
    """The cases with their files. `outbox` is the folder where jobs wait, of this run or others."""

    cases: Mapping[Case, Artifact]
    info: RunInfo
    timing: Timing
    outbox: Path
    args: argparse.Namespace
    commit: Commit
    progress: Progress

    def run(self) -> None:
        """Jobs for all, then their rounds, device by device. Raises DeviceBusyError, StoreError, OSError."""
        names = dict.fromkeys(case.device for case in self.cases)
        for name in names:
            chosen = {case: made for case, made in self.cases.items() if case.device == name}
            info = driver_of(next(iter(chosen)))
            assert info is not None
            self._run_on(info, list(self._jobs(chosen, info)))

    def _jobs(self, chosen: Mapping[Case, Artifact], info: DriverInfo) -> Iterator[Waiting]:
        for case, made in chosen.items():
            try:
                yield self._put(case, made, info)
            except RunnerError as error:  # damaged tensors beside the file
                self.commit(case.id, error.failure())

    def _run_on(self, info: DriverInfo, jobs: Sequence[Waiting]) -> None:
        # bench.toml's budget is for processes of this machine; a phone's launches take seconds each
        budget = self.timing.max_seconds if self.args.max_seconds is not None else None
        began = time.monotonic()
        shown = DeviceProgress(self.progress)
        turns = Turns(
            info.name,
            lambda: self._connected(info, shown),
            lambda waiting, outcome: self.commit(waiting.case.id, self._told(outcome, info)),
            seed=self.timing.seed,
            groups={job.case.id: f"{comparison(job.case)} {job.case.compute_unit}" for job in jobs},
            stop=lambda: budget is not None and time.monotonic() - began > budget,
            observe=shown.launched,
        )
        with only_one_on(info.name):
            turns.run(jobs)

    def _connected(self, info: DriverInfo, shown: DeviceProgress) -> Host:
        try:
            return connect(info, self.outbox, observe=shown.observed)
        except SeveralDevicesError as error:
            raise DeviceProblem("unplugged", str(error)) from None

    def _told(self, outcome: Round | Failure, info: DriverInfo) -> Round | Failure:
        """A device that is away: what waits for it, and the command that goes on."""
        if isinstance(outcome, Round) or outcome.detail.get("problem") not in AWAY:
            return outcome
        reason, _, fix = outcome.message.partition("; ")
        return replace(outcome, message=reason, advice=_advice(self.args, self.outbox, info, fix))

    def _put(self, case: Case, made: Artifact, info: DriverInfo) -> Waiting:
        told = artifacts.job(case, made, self.timing)
        inputs, references = read_tensors(made.tensors)
        sent = Sent(
            _model(made, info),
            info.model_format,
            tuple(tensor.name for tensor in made.inputs),
            [[one] for one in inputs],
            minimum_os=_minimum_os(made),
            references=references if info.runs_networks else (),
            tolerance=told.tolerance,
            artifact=made,
            modules=_modules(made),
            origin=Origin(self.info.run_id, self.info.plan_digest),
        )
        return outboxes.put(
            self.outbox, case, sent, timing=device_timing(self.timing), attempt=self.info.run_id
        )


def device_timing(timing: Timing) -> DeviceTiming:
    """As many rounds as a case must have: a job is sent once, so it cannot ask for more when it sees some."""
    return DeviceTiming(
        rounds=timing.min_rounds,
        warmup_ns=round(timing.warmup_seconds * 1e9),
        max_warmup_ns=max(1, round(timing.max_warmup_seconds * 1e9)),
        round_ns=round(timing.round_seconds * 1e9),
        min_sample_ns=max(1, round(timing.min_sample_ms * 1e6)),
        min_samples=timing.min_samples,
    )


def outbox_of(store: Path) -> Path:
    """Where jobs wait whose results a store wants."""
    return store.parent / "outbox"


def _model(made: Artifact, info: DriverInfo) -> bytes:
    """The file as the agent takes it."""
    if info.model_format == "mlpackage-zip":
        return archive.pack(archive.package_files(made.path))
    return made.path.read_bytes()


def _modules(made: Artifact) -> Mapping[str, str]:
    if made.kind != "mlpackage":
        return {}
    from converters.mlpackage_facts import describe

    return describe(made.path).modules


def _minimum_os(made: Artifact) -> str:
    """`16.0` for a package of iOS16."""
    target = str(made.facts.get("minimum_deployment_target", ""))
    return f"{target.removeprefix('iOS')}.0" if target.startswith("iOS") else ""


def _advice(args: argparse.Namespace, outbox: Path, info: DriverInfo, fix: str) -> str:
    words = _places(args)
    run = " ".join(["python bench.py agent run", shlex.quote(options.shown(outbox)), f"--driver {info.name}"])
    back = f"python bench.py agent import {shlex.quote(options.shown(outbox))}"
    first = f"{fix[0].upper()}{fix[1:]}. " if fix else ""
    return (
        f"{first}The jobs wait in {options.shown(outbox)}. With the device at this machine:"
        f" `{' '.join([run, *words])}`; with the device at another one copy that folder there, give the same"
        f" command there, copy the folder back, and here: `{' '.join([back, *words])}`."
    )


def _places(args: argparse.Namespace) -> Iterator[str]:
    """The options that name another store or configuration than the usual ones."""
    if args.config != options.CONFIG:
        yield f"--config {shlex.quote(str(args.config))}"
    if args.store is not None:
        yield f"--store {shlex.quote(str(args.store))}"
