"""Real measuring processes that succeed, crash, hang, lie and lose their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners import endings, lifeline, measuring_process, simulated, wire
from runners.measurement import Failure, Job, Round, Timing
from runners.measuring_process import child_environment
from runners.process import run_job

MakeJob = Callable[..., Job]
SOON = Timing(round_seconds=0.02, warmup_seconds=0.01, max_warmup_seconds=0.1, deadline_seconds=1.5)


def failed(outcome: Round | Failure) -> Failure:
    assert isinstance(outcome, Failure), outcome
    return outcome


def measured(outcome: Round | Failure) -> Round:
    assert isinstance(outcome, Round), outcome
    return outcome


def test_success_carries_samples_protocol_and_phases(simulate: MakeJob) -> None:
    taken = measured(run_job(replace(simulate(median_ns=2e6), round_index=3, position=7)))
    assert (taken.round_index, taken.position, taken.attempt) == (3, 7, 0)
    assert taken.samples_ns.dtype == np.int64
    assert len(taken.samples_ns) >= 20
    assert abs(np.median(taken.samples_ns) / taken.loop_count - 2e6) < 6e4
    assert taken.steady
    assert taken.flags == ()
    assert taken.protocol.backend == "simulated"
    assert taken.protocol.clock == "virtual"
    assert "4 real-valued inputs" in taken.protocol.inputs
    phases = taken.phases
    parts = (
        phases.start_ns
        + phases.import_ns
        + phases.load_ns
        + phases.verify_ns
        + phases.warmup_ns
        + phases.timed_ns
    )
    assert min(phases.start_ns, phases.import_ns, phases.load_ns, phases.verify_ns) > 0
    assert parts <= phases.process_ns
    assert abs(taken.started_at_ns - time.time_ns()) < 60e9


def test_a_round_survives_the_store_s_round_trip(simulate: MakeJob) -> None:
    taken = measured(run_job(simulate()))
    again = Round.from_dict(json.loads(json.dumps(taken.to_dict())), taken.samples_ns, taken.warmup_ns)
    assert again.to_dict() == taken.to_dict()
    assert again.protocol.id == taken.protocol.id


def test_protocol_is_the_same_in_every_round(simulate: MakeJob) -> None:
    first, second = (measured(run_job(simulate(round_index=i))) for i in (0, 1))
    assert first.protocol.id == second.protocol.id
    assert not np.array_equal(first.samples_ns, second.samples_ns)


def test_readings_before_and_after_and_constructed_environment(
    simulate: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "13")
    monkeypatch.setenv("OMP_SCHEDULE", "dynamic")
    taken = measured(run_job(replace(simulate(), threads=2)))
    before, after = taken.environment["before"], taken.environment["after"]
    assert set(before) == set(after)
    assert after["user_cpu_ns"] >= before["user_cpu_ns"] > 0
    assert taken.environment["variables"]["OMP_NUM_THREADS"] == "2"
    assert "OMP_SCHEDULE" not in taken.environment["variables"]
    assert taken.environment["variables"]["PYTHONHASHSEED"] == "0"


def test_what_says_which_gpu_is_meant_reaches_the_process_and_is_recorded(
    simulate: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the order `cuda:1` would be another GPU there than it is for this process."""
    told = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    found = measured(run_job(simulate())).environment["variables"]
    assert {name: found.get(name) for name in told} == told


def test_peak_memory_is_the_child_s_own(simulate: MakeJob) -> None:
    """Linux hands the parent's peak on to the child; 400 MB here must not be seen there."""
    ballast = np.ones(50_000_000)
    taken = measured(run_job(simulate()))
    assert ballast.nbytes == 400_000_000
    assert 10e6 < taken.peak_rss_bytes < 300e6


@pytest.mark.parametrize(
    ("fault", "kind", "number"),
    [
        ("segfault", "crashed", signal.SIGSEGV),
        ("abort", "crashed", signal.SIGABRT),
        ("kill", "killed", signal.SIGKILL),
        ("terminate", "killed", signal.SIGTERM),
        ("exit", "crashed", 0),
    ],
)
def test_crashes_are_typed_with_the_signal(simulate: MakeJob, fault: str, kind: str, number: int) -> None:
    failure = failed(run_job(simulate(fault=fault, fault_after=10, round_index=2)))
    assert (failure.kind, failure.signal, failure.round_index) == (kind, number, 2)
    assert failure.advice
    assert failure.detail["phase"] in ("warmup", "timed")
    assert failure.detail["process_ns"] > 0
    assert not failure.built
    if number:
        assert signal.Signals(number).name in failure.message
    else:
        assert "status 7" in failure.message


def test_crash_while_loading_says_so(simulate: MakeJob) -> None:
    failure = failed(run_job(simulate(fault="segfault", fault_phase="load")))
    assert (failure.kind, failure.detail["phase"]) == ("crashed", "load")


@pytest.mark.parametrize("fault", ["hang", "sleep", "stop", "flood"])
def test_hangs_are_killed_at_the_deadline(simulate: MakeJob, fault: str) -> None:
    """`hang` holds the interpreter lock, `stop` is stopped by a signal, `flood` prints without end."""
    begun = time.monotonic()
    failure = failed(run_job(simulate(fault=fault, timing=SOON)))
    assert failure.kind == "deadline"
    assert "1.5 s" in failure.message
    assert 1.4 < time.monotonic() - begun < 30
    assert no_children()


def test_fault_in_one_round_only(simulate: MakeJob) -> None:
    job = simulate(fault="abort", fault_round=1)
    measured(run_job(job))
    assert failed(run_job(replace(job, round_index=1))).kind == "crashed"


@pytest.mark.parametrize(
    ("fault", "phase", "kind", "words"),
    [
        ("raise", "load", "load", "simulated error"),
        ("raise", "infer", "infer", "simulated error"),
        ("allocate", "load", "out_of_memory", "allocate"),
        ("allocate", "infer", "out_of_memory", "allocate"),
        ("clock_back", "infer", "infer", "backwards"),
    ],
)
def test_python_errors_are_typed(simulate: MakeJob, fault: str, phase: str, kind: str, words: str) -> None:
    failure = failed(run_job(simulate(fault=fault, fault_phase=phase)))
    assert (failure.kind, failure.signal) == (kind, 0)
    assert words in failure.message
    assert failure.advice


@pytest.mark.parametrize("fault", ["wrong_output", "cached_output", "nan_output", "wrong_shape"])
def test_wrong_outputs_are_refused(simulate: MakeJob, fault: str) -> None:
    failure = failed(run_job(simulate(fault=fault)))
    assert failure.kind == "wrong_output"
    assert failure.detail["phase"] == "verify"


@pytest.mark.parametrize("fault", ["wrong_output", "cached_output"])
def test_outputs_that_go_wrong_after_the_warm_up_are_refused(simulate: MakeJob, fault: str) -> None:
    assert failed(run_job(simulate(fault=fault, fault_after=12))).kind == "wrong_output"


def test_precision_that_is_not_the_one_asked_for_is_refused(simulate: MakeJob) -> None:
    failure = failed(run_job(replace(simulate(runs_precision="fp32"), precision="fp16")))
    assert failure.kind == "precision_mismatch"
    assert "fp32" in failure.message
    assert "fp16" in failure.message


def test_restless_latencies_are_flagged_not_hidden(simulate: MakeJob) -> None:
    taken = measured(run_job(simulate(drift_per_second=20.0)))
    assert not taken.steady
    assert taken.flags == ("not_steady",)


def test_a_clock_that_steps_forward_in_a_round_is_told(simulate: MakeJob) -> None:
    """As where process or machine stood still: the median stays, the mean does not."""
    quiet = measured(run_job(simulate(median_ns=2e6)))
    stopped = measured(run_job(simulate(median_ns=2e6, fault="clock_forward", fault_after=30)))
    assert (quiet.flags, stopped.flags) == ((), ("disturbed",))
    (reason,) = stopped.environment["disturbances"]
    assert reason.startswith("one sample lasted 502 ms")
    assert len(stopped.samples_ns) < len(quiet.samples_ns)
    assert abs(np.median(stopped.samples_ns) - np.median(quiet.samples_ns)) < 4e4
    assert stopped.samples_ns.mean() > 5 * quiet.samples_ns.mean()


def test_printing_neither_disturbs_the_result_nor_fills_memory(simulate: MakeJob) -> None:
    measured(run_job(simulate(fault="print")))


def test_last_lines_printed_are_in_the_failure(tmp_path: Path, simulate: MakeJob) -> None:
    script = "import sys; print('x' * 10_000_000); print('the reason', file=sys.stderr); sys.exit(3)"
    failure = failed(run_job(simulate(), command=(sys.executable, "-c", script)))
    assert failure.kind == "crashed"
    assert "status 3" in failure.message
    assert failure.detail["output"].endswith("the reason")
    assert len(failure.detail["output"]) <= 4000


def answering(code: str) -> tuple[str, ...]:
    """A command that writes something of its own into the result pipe."""
    script = "import os, sys, struct; out = int(sys.argv[2]); os.read(int(sys.argv[1]), 1 << 16)\n" + code
    return (sys.executable, "-c", script)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.write(out, b'DBF1' + struct.pack('<Q', 100) + b'{')", "13 bytes of an incomplete result"),
        ("os.write(out, b'hello, this is no frame')", "malformed"),
        (
            "os.write(out, b'hello, this is no frame'); os.read(0, 1); import time; time.sleep(60)",
            "malformed",
        ),
        (
            "h = b'{\"arrays\": {}, \"round\": {}}'; os.write(out, b'DBF1' + struct.pack('<Q', len(h)) + h)",
            "malformed",
        ),
        ("os.close(out)", "status 0"),
    ],
)
def test_broken_results_are_failures(simulate: MakeJob, code: str, words: str) -> None:
    failure = failed(run_job(simulate(), command=answering(code)))
    assert failure.kind == "crashed"
    assert words in failure.message
    assert no_children()


def test_truncated_samples_are_a_failure(simulate: MakeJob) -> None:
    frame = wire.encode({"round": {}}, {"samples_ns": np.arange(100)})[:-8]
    failure = failed(run_job(simulate(), command=answering(f"os.write(out, {frame!r})")))
    assert "incomplete result" in failure.message


def test_process_that_answers_but_does_not_end_is_killed(simulate: MakeJob) -> None:
    frame = wire.encode({"failure": Failure("load", "said by a script").to_dict()})
    code = f"os.write(out, {frame!r}); import time; time.sleep(600)"
    begun = time.monotonic()
    failure = failed(run_job(simulate(), command=answering(code)))
    assert failure.message == "said by a script"
    assert time.monotonic() - begun < 60
    assert no_children()


def test_grandchildren_do_not_survive(simulate: MakeJob, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    start = "import subprocess as s; p = s.Popen(['sleep', '600'])"
    code = f"{start}; open({str(note)!r}, 'w').write(str(p.pid)); os._exit(5)"
    assert failed(run_job(simulate(), command=answering(code))).kind == "crashed"
    assert ended_soon(int(note.read_text()))


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_process_that_cannot_start_costs_its_case_only_and_leaks_nothing(simulate: MakeJob) -> None:
    before = open_descriptors()
    failure = failed(run_job(simulate(), command=("/no/such/program",)))
    assert failure.kind == "crashed"
    assert "could not be started: No such file" in failure.message
    assert open_descriptors() == before


def test_descriptors_are_closed(simulate: MakeJob) -> None:
    job = simulate()
    run_job(job)
    before = open_descriptors()
    run_job(job)
    run_job(job, command=(sys.executable, "-c", "raise SystemExit(1)"))
    assert open_descriptors() == before


def test_artifact_changed_after_conversion_is_refused(simulate: MakeJob) -> None:
    job = simulate()
    job.artifact.write_bytes(job.artifact.read_bytes() + b" ")
    failure = failed(run_job(job))
    assert failure.kind == "bad_artifact"
    assert job.artifact_sha256[:12] in failure.message


@pytest.mark.parametrize("name", ["artifact", "tensors"])
def test_missing_files_are_named(simulate: MakeJob, name: str) -> None:
    job = simulate()
    getattr(job, name).unlink()
    failure = failed(run_job(job))
    assert failure.kind == "bad_artifact"
    assert str(getattr(job, name)) in failure.message


def test_damaged_tensors_are_refused(simulate: MakeJob) -> None:
    job = simulate()
    job.tensors.write_bytes(job.tensors.read_bytes()[:500])
    assert failed(run_job(job)).kind == "bad_artifact"


def test_tensors_with_pickles_are_refused(simulate: MakeJob) -> None:
    job = simulate()
    objects = np.array([{}], dtype=object)
    np.savez(job.tensors, input_0=objects, reference_0=objects, input_1=objects, reference_1=objects)
    assert failed(run_job(job)).kind == "bad_artifact"


def test_unknown_backend_lists_the_near_ones(simulate: MakeJob) -> None:
    failure = failed(run_job(replace(simulate(), backend="onnxruntim")))
    assert failure.kind == "unavailable"
    assert "onnxruntime" in failure.message


@pytest.mark.parametrize(
    ("options", "words"),
    [({"sped": 1}, "sped"), ({"runtime": {"fast": "1"}}, "fast"), ({"busy_wait_ns": 5}, "busy wait")],
)
def test_unknown_options_are_refused(simulate: MakeJob, options: dict[str, Any], words: str) -> None:
    failure = failed(run_job(simulate(options=options)))
    assert failure.kind == "load"
    assert words in failure.message


def test_job_larger_than_a_pipe_is_refused_before_anything_starts(simulate: MakeJob) -> None:
    with pytest.raises(ValueError, match="60000"):
        run_job(simulate(options={"runtime": {"x": "y" * 70_000}}))


def test_simulation_that_is_none_is_a_load_failure(simulate: MakeJob, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "strange.json"
    for text in (
        "[]",
        "{",
        '{"schema": 99}',
        '{"schema": 1, "medan_ns": 3}',
        '{"schema": 1, "median_ns": -3}',
    ):
        path.write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        failure = failed(run_job(replace(simulate(), artifact=path, artifact_sha256=digest)))
        assert failure.kind == "load", text
        assert str(path) in failure.message


PARENT = """
import sys
from pathlib import Path
from runners import simulated
from runners.measurement import Job
from runners.process import run_job
import json
run_job(Job.from_dict(json.loads(sys.argv[1])))
"""


def start_parent(job: Job) -> tuple[subprocess.Popen[bytes], int]:
    """A parent in a process of its own and the pid of its measuring process, which holds the device lock."""
    arguments = [sys.executable, "-P", "-c", PARENT, json.dumps(job.to_dict())]
    parent = subprocess.Popen(arguments, env={**child_environment(1)}, stderr=subprocess.DEVNULL)
    lock = Path(job.options["lock_dir"]) / "cpu.lock"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            return parent, int(json.loads(lock.read_text())["pid"])
        except (OSError, ValueError):
            time.sleep(0.02)
    parent.kill()
    raise AssertionError("the measuring process never took its lock")


@pytest.mark.parametrize("fault", ["hang", "sleep", "stop"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent(simulate: MakeJob, fault: str, number: int) -> None:
    if sys.platform != "linux" and fault != "sleep":
        pytest.skip("only Linux can end a process that hangs in C when its parent dies")
    parent, child = start_parent(simulate(fault=fault, fault_phase="load"))
    time.sleep(0.1)
    parent.send_signal(number)
    parent.wait(30)
    assert ended_soon(child)


def test_end_of_the_control_pipe_ends_the_process(simulate: MakeJob) -> None:
    """What ends it where no signal comes when the parent dies."""
    job = simulate(fault="sleep")
    (control_read, control), (results, results_write) = os.pipe(), os.pipe()
    started = subprocess.Popen(
        [*measuring_process.COMMAND, str(control_read), str(results_write), str(os.getpid())],
        pass_fds=(control_read, results_write),
        env=child_environment(1),
    )
    os.close(control_read)
    os.close(results_write)
    wire.send(
        control, wire.encode({"job": job.to_dict(), "place": "alone", "spawned_ns": time.perf_counter_ns()})
    )
    decoder, phases = wire.Decoder(), []
    while "verify" not in phases:
        phases += [message.header["phase"] for message in decoder.feed(os.read(results, 1 << 16))]
    os.close(control)
    assert started.wait(30) == lifeline.ORPHANED
    os.close(results)


def test_process_without_a_job_ends(simulate: MakeJob) -> None:
    (control_read, control), (results, results_write) = os.pipe(), os.pipe()
    command = [*measuring_process.COMMAND, str(control_read), str(results_write), str(os.getpid())]
    with subprocess.Popen(
        command, pass_fds=(control_read, results_write), env=child_environment(1)
    ) as started:
        for descriptor in (control_read, results_write, control):
            os.close(descriptor)
        assert started.wait(30) == lifeline.ORPHANED
    os.close(results)


def test_process_whose_parent_is_another_ends(simulate: MakeJob) -> None:
    """The parent died, and another adopted the process, before it could ask for the signal."""
    (control_read, control), (results, results_write) = os.pipe(), os.pipe()
    command = [*measuring_process.COMMAND, str(control_read), str(results_write), "1"]
    with subprocess.Popen(
        command, pass_fds=(control_read, results_write), env=child_environment(1)
    ) as started:
        wire.send(control, wire.encode({"job": simulate().to_dict(), "place": "alone", "spawned_ns": 0}))
        assert started.wait(30) == lifeline.ORPHANED
    for descriptor in (control_read, results_write, control, results):
        os.close(descriptor)


def test_without_a_descriptor_for_the_exit(simulate: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: the end of the result pipe stands for the end of the process."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    measured(run_job(simulate()))
    assert failed(run_job(simulate(fault="abort"))).signal == signal.SIGABRT
    assert failed(run_job(simulate(fault="sleep", timing=SOON))).kind == "deadline"


def test_kernel_s_own_kill_is_out_of_memory() -> None:
    ending = endings.Ending(returncode=-signal.SIGKILL, phase="load", oom_kills=1)
    failure = endings.failure(ending)
    assert (failure.kind, failure.signal) == ("out_of_memory", signal.SIGKILL)
    assert endings.failure(replace(ending, oom_kills=0)).kind == "killed"
    assert endings.failure(replace(ending, returncode=-signal.SIGSEGV)).kind == "crashed"


def test_signals_without_a_name_are_numbers() -> None:
    assert "signal 77" in endings.failure(endings.Ending(returncode=-77, phase="load")).message


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_memory_limit_that_strikes_is_out_of_memory(simulate: MakeJob) -> None:
    group = memory_group(limit_bytes=200 << 20)
    if group is None:
        pytest.skip("this machine lets us make no control group with a memory limit")
    try:
        job = simulate(fault="eat_memory", fault_phase="load")
        script = (
            f"import os, sys, json; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from runners.measurement import Job\nfrom runners.process import run_job\n"
            "print(json.dumps(run_job(Job.from_dict(json.loads(sys.argv[1]))).to_dict()))"
        )
        command = [sys.executable, "-P", "-c", script, json.dumps(job.to_dict())]
        done = subprocess.run(
            command, env=child_environment(1), capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        wait_for(lambda: removed(group))
    failure = Failure.from_dict(json.loads(done.stdout))
    assert (failure.kind, failure.signal) == ("out_of_memory", signal.SIGKILL)


def memory_group(limit_bytes: int) -> Path | None:
    """A new control group with a memory limit, version 2 or 1, or None."""
    for parent, name in (
        (Path("/sys/fs/cgroup"), "memory.max"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    ):
        group = parent / f"test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / name).exists():
            (group / name).write_text(str(limit_bytes))
            return group
        group.rmdir()
    return None


def removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def ended_soon(pid: int) -> bool:
    return wait_for(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """A zombie that nobody reaps (its adopter may not) is not alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def no_children() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return True


def test_every_fault_is_exercised_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in (*simulated.FAULTS, *simulated.ALTERATIONS) if f'"{name}"' not in text] == []
