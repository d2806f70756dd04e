"""The agent's loop: it reads a job from its mailbox, measures, and writes every step into the journal.

The Swift package BenchRunner/BenchCore does the same, entry for entry; fixtures hold both to it. Killed at
any moment and started again, it goes on behind the last whole entry.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from device_agents.bodies import (
    NOT_KNOWN,
    Begin,
    Body,
    Closed,
    Compiled,
    Failed,
    Finished,
    Loaded,
    Outputs,
    Placement,
    RoundTaken,
    as_table,
)
from device_agents.engine import Engine, EngineError
from device_agents.forms import FormError
from device_agents.job import DeviceJob, InputFile, ModelFile
from device_agents.journal import Append, JournalFile, durably
from device_agents.mailbox import COMPILED, JOB, JOURNAL, ORDERS, OUTPUTS, Orders, place
from runners.timing import ClockError, take, warm_up


def start(mailbox: Path, engine: Engine, *, append: Append = durably) -> None:
    """One launch: forget what the host has taken, then work on the job that it orders. Raises OSError."""
    path = mailbox / ORDERS
    try:
        orders = Orders.from_bytes(path.read_bytes()) if path.is_file() else Orders()
    except FormError:
        return  # the host sees that nothing was written, and its own version differs
    for job_id in orders.forget:
        for found in mailbox.glob(f"{job_id}.*"):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    if orders.run and place(mailbox, orders.run, JOB).is_file():
        run(mailbox, orders.run, engine, append=append)


def run(mailbox: Path, job_id: str, engine: Engine, *, append: Append = durably) -> None:
    """One launch's work on a job. Raises OSError, for a full disk say, and nothing else."""
    path = place(mailbox, job_id, JOURNAL)
    try:
        journal = JournalFile(path, job_id, append=append)
    except FormError:
        path.replace(path.with_suffix(".damaged"))
        journal = JournalFile(path, job_id, append=append)
    if journal.journal.ended:
        return
    try:
        job = DeviceJob.from_bytes(place(mailbox, job_id, JOB).read_bytes())
        if job.job_id != job_id:
            raise FormError(f"the mailbox of {job_id} holds job {job.job_id}")
    except FormError as error:
        failed = Failed("bad_job", "job", str(error)[:4096])
        journal.append("failed", as_table(failed), engine.utc_ns())
        return
    _Launch(job, mailbox, journal, engine).go()


class _Stop(Exception):
    """The job is over; `failed` says why."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class _Launch:
    def __init__(self, job: DeviceJob, mailbox: Path, journal: JournalFile, engine: Engine) -> None:
        self.job, self.mailbox, self.journal, self.engine = job, mailbox, journal, engine
        self.stage = "job"

    def go(self) -> None:
        try:
            self._steps()
        except _Stop as stop:
            self._write("failed", stop.failed)
        except EngineError as error:
            self._write("failed", Failed(error.problem, self.stage, str(error)[:4096]))
        except ClockError as error:
            self._write("failed", Failed("clock_failed", self.stage, str(error)))
        except MemoryError:
            self._write("failed", Failed("out_of_memory", self.stage, "no memory could be had"))

    def _steps(self) -> None:
        if not self.journal.journal.entries:
            self._write("received", self.engine.facts())
        else:
            self._note_interruption()
        inputs = self._checked(self.job.inputs)
        self._compile()
        self._loads()
        self.engine.set_inputs(_cut(inputs, self.job.inputs))
        if self.job.placement and not self._has("placement"):
            self._begin("placement")
            self._write("placement", Placement(self.engine.placement()))
        if self.job.outputs and not self._has("outputs"):
            self._outputs()
        self._rounds()

    def _note_interruption(self) -> None:
        """The launch before died in the step that it had begun; after too many times, so does the job."""
        last = self.journal.journal.entries[-1]
        if last.kind != "begin":
            return
        self.journal.append("interrupted", last.body, self.engine.utc_ns())
        times = [e for e in self.journal.journal.of_kind("interrupted") if _step(e.body) == _step(last.body)]
        if len(times) >= self.job.max_interruptions:
            where = _told(last.body["stage"], last.body["round_index"])
            message = f"the app was killed {len(times)} times in {where}"
            raise _Stop(Failed("app_killed", str(last.body["stage"]), message))

    def _checked(self, file: InputFile | ModelFile) -> bytes:
        path = self._place(file.file)
        data = path.read_bytes() if path.is_file() else b""
        if len(data) != file.size_bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise _Stop(Failed("bad_model", "job", f"{file.file} is not the file that the job names"))
        return data

    def _compile(self) -> None:
        if self._has("compiled") and self.engine.is_compiled(self._place(COMPILED)):
            return
        self._checked(self.job.model)
        self._begin("compile")
        self.engine.prepare(self.job, self._place(self.job.model.file), self._place(COMPILED))
        start = self.engine.clock_ns()
        self.engine.compile()
        self._write("compiled", Compiled(self._since(start)))

    def _loads(self) -> None:
        """The first launch loads cold, then warm; a later one loads once."""
        first = not any(e.body["stage"] == "load" for e in self.journal.journal.of_kind("begin"))
        self._load(cold=first)
        for _ in range(self.job.warm_loads if first else 0):
            self.engine.unload()
            self._load(cold=False)

    def _load(self, *, cold: bool) -> None:
        self._begin("load")
        start = self.engine.clock_ns()
        self.engine.load(self.job, self._place(COMPILED))
        self._write("loaded", Loaded(cold, self._since(start)))

    def _outputs(self) -> None:
        """All of them for the check on the host, written whole before the entry that names them."""
        self._begin("outputs")
        sets = self.job.inputs.sets
        data = b"".join(part for index in range(sets) for part in self.engine.outputs(index))
        temporary = self._place(f"{OUTPUTS}.part")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._place(OUTPUTS))
        sha256 = hashlib.sha256(data).hexdigest()
        self._write("outputs", Outputs(sha256, len(data), sets, self.engine.output_tensors()))

    def _rounds(self) -> None:
        taken = {entry.body["round_index"] for entry in self.journal.journal.of_kind("round")}
        left = [index for index in range(self.job.timing.rounds) if index not in taken]
        for number, index in enumerate(left[: self.job.rounds_per_launch]):
            if number:
                self.engine.unload()
                self._load(cold=False)
                self.engine.set_inputs(_cut(self._checked(self.job.inputs), self.job.inputs))
            self._round(index)
        rest = len(left) - self.job.rounds_per_launch
        if rest > 0:
            self._write("closed", Closed(rest))
        else:
            self._write("finished", Finished(self.job.timing.rounds))

    def _round(self, index: int) -> None:
        self._begin("round", index)
        timing, clock = self.job.timing.as_timing(), self.engine.clock_ns
        before, started_at_ns, start = self.engine.conditions(), self.engine.utc_ns(), clock()
        warm = warm_up(self.engine.predict, self.job.inputs.sets, timing, clock=clock)
        between = clock()
        samples = take(self.engine.predict, warm, timing, clock=clock)
        taken = RoundTaken(
            round_index=index,
            loop_count=warm.loop_count,
            steady=warm.steady,
            started_at_ns=started_at_ns,
            warmup_span_ns=between - start,
            timed_span_ns=clock() - between,
            samples_ns=tuple(samples.tolist()),
            warmup_ns=tuple(warm.samples_ns.tolist()),
            before=before,
            after=self.engine.conditions(),
        )
        self._write("round", taken)

    def _since(self, start_ns: int) -> int:
        elapsed_ns = self.engine.clock_ns() - start_ns
        if elapsed_ns <= 0:
            raise ClockError(f"{self.stage} took {elapsed_ns} ns by this clock")
        return elapsed_ns

    def _place(self, name: str) -> Path:
        return place(self.mailbox, self.job.job_id, name)

    def _has(self, kind: str) -> bool:
        return bool(self.journal.journal.of_kind(kind))

    def _begin(self, stage: str, round_index: int = NOT_KNOWN) -> None:
        self.stage = stage
        memory = self.engine.conditions().available_memory_bytes
        self._write("begin", Begin(stage, round_index, memory))

    def _write(self, kind: str, body: Body) -> None:
        self.journal.append(kind, as_table(body), self.engine.utc_ns())


def _step(body: object) -> tuple[object, object]:
    assert isinstance(body, dict)
    return body["stage"], body["round_index"]


def _told(stage: str, round_index: int) -> str:
    return f"round {round_index}" if stage == "round" else f"the step '{stage}'"


def _cut(data: bytes, inputs: InputFile) -> list[Sequence[bytes]]:
    """Per set, the bytes of each tensor."""
    sets: list[Sequence[bytes]] = []
    place = 0
    for _ in range(inputs.sets):
        parts = []
        for tensor in inputs.tensors:
            parts.append(data[place : place + tensor.size_bytes])
            place += tensor.size_bytes
        sets.append(parts)
    return sets
