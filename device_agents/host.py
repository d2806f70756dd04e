"""The host's side of a job: carry it to the phone, start the app, take what it wrote, go on after any break.

The host keeps its own copy of the journal, whole lines only, in an outbox folder per job. What the phone
tells must begin with that copy, byte for byte, so nothing can be lost or told twice unseen.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_agents.bodies import Failed, Outputs, RoundTaken, body_of
from device_agents.forms import FormError
from device_agents.job import DeviceJob
from device_agents.journal import Entry, Journal, read
from device_agents.mailbox import INPUTS, JOB, JOURNAL, MODEL, ORDERS, OUTPUTS, Orders, file_name
from device_agents.problems import DeviceProblem
from device_agents.transport import Device, LaunchEnd, Transport

KILLED_FOR_MEMORY = 9
SILENT_LAUNCHES = 2
Observe = Callable[[Entry], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the phone told of a job: checked entries, and its outputs where it was asked for them."""

    job: DeviceJob
    journal: Journal
    outputs: bytes | None = None

    @property
    def finished(self) -> bool:
        return bool(self.journal.ended and self.journal.ended.kind == "finished")

    @property
    def rounds(self) -> tuple[RoundTaken, ...]:
        """In order of their index; each stands in the journal once."""
        bodies = [body_of(entry) for entry in self.journal.of_kind("round")]
        return tuple(sorted((b for b in bodies if isinstance(b, RoundTaken)), key=lambda b: b.round_index))


class Outbox:
    """A job's folder on the host: `job.json`, the files to send, and what came back so far."""

    def __init__(self, folder: Path, job: DeviceJob) -> None:
        self.folder, self.job = folder, job
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL
        self.journal = read(self.path.read_bytes() if self.path.exists() else b"", job.job_id)

    def absorb(self, data: bytes) -> list[Entry]:
        """Keep what the phone's journal holds beyond ours, durably; gives the new entries.

        Raises DeviceProblem `journal_damaged` where it does not begin with ours, or is not well formed.
        """
        try:
            found = read(data, self.job.job_id)
            for entry in found.entries:
                body_of(entry)
            _check_rounds(found, self.job)
        except FormError as error:
            raise DeviceProblem("journal_damaged", str(error)) from None
        if not found.data.startswith(self.journal.data):
            raise DeviceProblem(
                "journal_damaged", "the phone's journal does not begin with what was taken before"
            )
        new = list(found.entries[len(self.journal.entries) :])
        if new:
            write_whole(self.path, found.data)
            self.journal = found
        return new

    def outputs(self) -> bytes | None:
        """The outputs that the journal names, where they are here and are those; else None."""
        path = self.folder / OUTPUTS
        named = self._named_outputs()
        if named is None or not path.is_file() or path.stat().st_size != named.size_bytes:
            return None
        data = path.read_bytes()
        return data if hashlib.sha256(data).hexdigest() == named.sha256 else None

    def _named_outputs(self) -> Outputs | None:
        entries = self.journal.of_kind("outputs")
        body = body_of(entries[-1]) if entries else None
        return body if isinstance(body, Outputs) else None

    @property
    def expects_outputs(self) -> bool:
        return self._named_outputs() is not None and self.outputs() is None


def _check_rounds(journal: Journal, job: DeviceJob) -> None:
    indices = [entry.body["round_index"] for entry in journal.of_kind("round")]
    if len(set(indices)) != len(indices) or any(index >= job.timing.rounds for index in indices):
        raise FormError(f"journal: rounds {indices} for a job of {job.timing.rounds}")


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a job that was sent: launches in a row that wrote nothing, and the last signal of an end."""

    silent: int = 0
    signal: int = 0


@dataclass
class Host:
    """Runs jobs on one device. `sleep` and `clock_s` are injected; `observe` is told every new entry."""

    transport: Transport
    device: Device
    observe: Observe = lambda entry: None
    sleep: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic
    poll_s: float = 5.0
    launch_seconds: float = 900.0
    _known: dict[str, _Known] = field(default_factory=dict)
    _ordered: str = ""

    def run(self, outbox: Outbox, files: Mapping[str, Path], *, forget: Iterable[str] = ()) -> Taken:
        """All of a job, or what was left of it. `files` are the model and inputs by their name in the job.

        Raises DeviceProblem, after keeping everything that had been told. Calling it again goes on.
        """
        forgotten = tuple(forget)
        while not self.advance(outbox, files, forget=forgotten):
            pass
        return Taken(outbox.job, outbox.journal, outbox.outputs())

    def advance(self, outbox: Outbox, files: Mapping[str, Path], *, forget: Iterable[str] = ()) -> bool:
        """One launch of the app for a job, so that jobs can take turns: has the job ended?

        Raises DeviceProblem as `run` does.
        """
        job_id = outbox.job.job_id
        known = self._known.pop(job_id, None)  # and again below, unless something breaks on the way
        if known is None and not outbox.journal.ended:
            self._fetch(outbox)
        if not outbox.journal.ended:
            if known is None or self._ordered != job_id:
                self._send(outbox, files, tuple(forget))
            known = self._launched(outbox, known or _Known())
        self._take_outputs(outbox)
        ended = outbox.journal.ended
        if ended is None:
            self._known[job_id] = known or _Known()
            return False
        body = body_of(ended)
        if isinstance(body, Failed):
            raise DeviceProblem(body.problem, body.message, stage=body.stage)
        return True

    def _send(self, outbox: Outbox, files: Mapping[str, Path], forget: tuple[str, ...]) -> None:
        """Files first, orders last: what the app finds ordered is there."""
        job, self._ordered = outbox.job, ""
        if not outbox.journal.entries:
            write_whole(outbox.folder / JOB, job.to_bytes())
            for name in (MODEL, INPUTS):
                self._push(files[name], job, name)
            self._push(outbox.folder / JOB, job, JOB)
        orders = outbox.folder / ORDERS
        write_whole(orders, Orders(job.job_id, forget).to_bytes())
        self.transport.push(self.device, orders, ORDERS)
        self._ordered = job.job_id

    def _push(self, source: Path, job: DeviceJob, name: str) -> None:
        self.transport.push(self.device, source, file_name(job.job_id, name))

    def _launched(self, outbox: Outbox, known: _Known) -> _Known:
        """The app itself counts how often a step killed it."""
        end = self._launch()
        signal = end.signal or known.signal
        silent = 0 if self._fetch(outbox) else known.silent + 1
        if not outbox.journal.ended:
            if silent >= SILENT_LAUNCHES:
                raise DeviceProblem("app_killed", f"the app was started {silent} times and wrote nothing")
            return _Known(silent, signal)
        last = outbox.journal.entries[-1]
        if signal == KILLED_FOR_MEMORY and last.body.get("problem") == "app_killed":
            message = f"{last.body['message']}; iOS ended it with signal 9, as it does for want of memory"
            raise DeviceProblem("out_of_memory", message, stage=str(last.body["stage"]))
        return _Known(silent, signal)

    def _launch(self) -> LaunchEnd:
        end = self.transport.launch(self.device, timeout_s=self.launch_seconds)
        deadline = self.clock_s() + self.launch_seconds
        while not end.ended and self.transport.is_running(self.device):
            if self.clock_s() > deadline:
                raise DeviceProblem("timed_out", f"the app still runs after {self.launch_seconds:.0f} s")
            self.sleep(self.poll_s)
        return end

    def _fetch(self, outbox: Outbox) -> int:
        """How many new entries the phone had."""
        target = outbox.folder / f"{JOURNAL}.pulled"
        name = file_name(outbox.job.job_id, JOURNAL)
        try:
            if not self.transport.pull(self.device, name, target):
                if outbox.journal.entries:
                    raise DeviceProblem(
                        "journal_damaged", "the phone no longer has this job: was BenchRunner deleted?"
                    )
                return 0
            new = outbox.absorb(target.read_bytes())
        finally:
            target.unlink(missing_ok=True)
        for entry in new:
            self.observe(entry)
        return len(new)

    def _take_outputs(self, outbox: Outbox) -> None:
        if not outbox.expects_outputs:
            return
        target = outbox.folder / OUTPUTS
        found = self.transport.pull(self.device, file_name(outbox.job.job_id, OUTPUTS), target)
        if not found or outbox.outputs() is None:
            target.unlink(missing_ok=True)
            raise DeviceProblem("tool_failed", f"{OUTPUTS} did not come back as the journal names it")


def write_whole(path: Path, data: bytes) -> None:
    """The file is whole or as before, and on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
