"""A job on the simulated phone: a fault at any step loses nothing, doubles nothing, and has its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_agents.bodies import RoundTaken, body_of
from device_agents.host import Host, Outbox
from device_agents.problems import PROBLEMS, DeviceProblem
from device_agents.simulated_phone import Fault
from device_agents.transport import LaunchEnd

COMMANDS = 6  # how often a user would repeat the command at most


def kinds(taken):
    return [entry.kind for entry in taken.journal.entries]


def test_a_job_without_faults_writes_every_step_in_order(bench):
    one = bench()
    taken = one.run()
    first = [
        "received",
        "begin",
        "compiled",
        *["begin", "loaded"] * 3,
        "begin",
        "placement",
        "begin",
        "outputs",
    ]
    later = ["begin", "loaded", "begin", "round"]
    assert kinds(taken) == [*first, "begin", "round", "closed", *later, "closed", *later, "finished"]
    assert [body.round_index for body in taken.rounds] == one.told == [0, 1, 2]
    assert one.phone.launches == 3
    assert taken.outputs == one.files["inputs.bin"].read_bytes()


def test_the_first_load_is_cold_and_the_others_are_not(bench):
    loads = [body_of(entry) for entry in bench().run().journal.of_kind("loaded")]
    assert [load.cold for load in loads] == [True, False, False, False, False]
    assert loads[0].duration_ns == 300_000_000
    assert {load.duration_ns for load in loads[1:]} == {40_000_000}


def test_rounds_are_raw_samples_of_the_phones_clock(bench):
    for body in bench().run().rounds:
        assert body.steady
        assert body.loop_count == 1
        assert 14 <= len(body.samples_ns) <= 15  # 30 ms of 2 ms predictions
        assert all(2_000_000 <= sample < 2_201_000 for sample in body.samples_ns)
        assert 2_000_000 <= min(body.samples_ns) < 2_001_000
        assert body.warmup_ns[0] >= 2_200_000


def test_several_rounds_in_a_launch_load_the_model_again_for_each(bench):
    one = bench(rounds_per_launch=5)
    taken = one.run()
    assert one.phone.launches == 1
    assert kinds(taken).count("loaded") == 5
    assert [body.round_index for body in taken.rounds] == [0, 1, 2]


def test_a_finished_job_is_answered_without_the_phone(bench):
    one = bench()
    one.run()
    calls = one.phone.calls
    one.phone.plugged = False
    one.phone.devices = lambda: [None]
    assert one.run().finished
    assert one.phone.calls == calls


def moments(bench):
    """How many appends, calls and predictions a job without faults has."""
    one = bench(name="count")
    one.run()
    return {"append": one.phone.appends, "call": one.phone.calls, "prediction": one.phone.predictions}


EXPECTED = {
    "unplug": {"unplugged"},
    "lock": {"locked"},
    "full": {"disk_full"},
    "kill": set(),
    "memory": set(),
    "crash": set(),
}


def attempt(one):
    """(what was taken, None), or (None, the problem)."""
    try:
        return one.run(), None
    except DeviceProblem as problem:
        return None, problem


def run_until_done(one, expected):
    """The command again and again, the user doing in between what the message says."""
    for _ in range(COMMANDS):
        taken, problem = attempt(one)
        if taken:
            return taken
        assert problem.name in expected, problem
        assert problem.failure().detail["problem"] == problem.name
        assert PROBLEMS[problem.name].advice
        one.phone.mend()
    raise AssertionError("the command never came through")


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("effect", ["kill", "lock", "unplug", "full"])
def test_a_fault_at_any_line_of_the_journal(bench, effect, when):
    count = moments(bench)["append"]
    assert count > 25
    for number in range(count):
        one = bench(Fault(effect, "append", number, when), name=f"n{number}")
        check_complete(one, run_until_done(one, EXPECTED[effect]))


@pytest.mark.parametrize("when", ["before", "half", "after"])
@pytest.mark.parametrize("effect", ["lock", "unplug"])
def test_a_fault_at_any_call_of_the_transport(bench, effect, when):
    count = moments(bench)["call"]
    assert count >= 10
    for number in range(1, count):  # the first only lists the devices
        one = bench(Fault(effect, "call", number, when), name=f"n{number}")
        check_complete(one, run_until_done(one, EXPECTED[effect]))


@pytest.mark.parametrize("effect", ["kill", "memory", "crash", "lock", "unplug"])
def test_a_fault_at_any_prediction(bench, effect):
    count = moments(bench)["prediction"]
    for number in range(0, count, 11):
        one = bench(Fault(effect, "prediction", number), name=f"n{number}")
        check_complete(one, run_until_done(one, EXPECTED[effect]))


def check_complete(one, taken):
    """Every round once, in the journal and as told to the observer, and the outputs whole."""
    assert taken.finished
    assert [body.round_index for body in taken.rounds] == [0, 1, 2]
    assert sorted(one.told) == [0, 1, 2]
    assert taken.outputs == one.files["inputs.bin"].read_bytes()
    on_phone = (one.phone.folder / f"{one.job.job_id}.journal.jsonl").read_bytes()
    assert on_phone == taken.journal.data
    assert all(isinstance(body_of(e), RoundTaken) for e in taken.journal.of_kind("round"))


def test_two_faults_in_one_job(bench):
    one = bench(Fault("unplug", "append", 6), Fault("kill", "append", 15, "half"))
    check_complete(one, run_until_done(one, {"unplugged"}))


@pytest.mark.parametrize(
    ("effect", "name"), [("memory", "out_of_memory"), ("kill", "app_killed"), ("crash", "app_killed")]
)
def test_a_step_that_kills_the_app_again_and_again_ends_the_job(bench, effect, name):
    """The cold load begins with line 3; the launch after a kill begins it again at lines 5 and 8."""
    one = bench(*[Fault(effect, "append", number) for number in (4, 7)])
    with pytest.raises(DeviceProblem) as caught:
        one.run()
    assert caught.value.name == name
    assert caught.value.detail["stage"] == "load"
    assert caught.value.failure().kind == PROBLEMS[name].kind
    with pytest.raises(DeviceProblem):  # and is not tried again without being asked to
        one.run()


@pytest.mark.parametrize(
    ("stage", "problem", "kind"),
    [
        ("compile", "specification_too_new", "load"),
        ("compile", "compile_failed", "load"),
        ("load", "load_failed", "load"),
        ("load", "out_of_memory", "out_of_memory"),
        ("predict", "predict_failed", "infer"),
        ("placement", "load_failed", "load"),
    ],
)
def test_what_core_ml_refuses_is_the_jobs_failure(bench, stage, problem, kind):
    one = bench()
    one.phone.engine.refuses = {stage: (problem, "in its own words")}
    with pytest.raises(DeviceProblem, match="in its own words") as caught:
        one.run()
    assert caught.value.name == problem
    failure = caught.value.failure()
    assert failure.kind == kind
    assert failure.advice == PROBLEMS[problem].advice


def test_a_failure_keeps_the_rounds_before_it(bench):
    one = bench()
    counted = 0

    def predicted():
        nonlocal counted
        counted += 1
        if counted > 60:
            one.phone.engine.refuses = {"predict": ("predict_failed", "no")}

    one.phone.engine.on_predict = predicted
    with pytest.raises(DeviceProblem):
        one.run()
    assert one.told
    assert one.told == list(range(len(one.told)))


def test_a_damaged_file_is_refused_by_the_phone(bench):
    one = bench()
    one.files["model.zip"].write_bytes(b"a model" * 99 + b"b model")
    with pytest.raises(DeviceProblem, match=r"model\.zip is not the file") as caught:
        one.run()
    assert caught.value.name == "bad_model"


def test_a_phone_that_lost_the_job_is_told_apart_from_one_that_never_had_it(bench):
    one = bench(Fault("unplug", "call", 9))  # after the first launch and the first look at the journal
    assert attempt(one)[1].name == "unplugged"
    assert one.told
    one.phone.mend()
    for path in one.phone.folder.glob("*.journal.jsonl"):
        path.unlink()
    problem = attempt(one)[1]
    assert problem.name == "journal_damaged"
    assert "BenchRunner deleted" in str(problem)


def test_a_phone_that_tells_another_story_is_not_believed(bench):
    one = bench(Fault("unplug", "call", 9))
    assert attempt(one)[1].name == "unplugged"
    one.phone.mend()
    path = one.phone.folder / f"{one.job.job_id}.journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"simulated phone", b"simulated fone!"))
    assert attempt(one)[1].name == "journal_damaged"
    assert one.told == [0]  # what was taken before is kept


def test_a_whole_journal_that_is_another_one_is_not_believed(bench):
    """Well formed and chained, as a phone that was wiped and measured again would have it."""
    one, other = bench(Fault("unplug", "call", 9)), bench(name="other")
    assert attempt(one)[1].name == "unplugged"
    one.phone.mend()
    other.phone.engine.latency_ns = 3_000_000
    other.run()
    name = f"{one.job.job_id}.journal.jsonl"
    (one.phone.folder / name).write_bytes((other.phone.folder / name).read_bytes())
    problem = attempt(one)[1]
    assert problem.name == "journal_damaged"
    assert "does not begin" in str(problem)
    assert one.told == [0]


def test_an_app_that_writes_nothing_is_given_up(bench):
    one = bench()
    one.phone._run_app = lambda: LaunchEnd(True)
    with pytest.raises(DeviceProblem, match="wrote nothing") as caught:
        one.run()
    assert caught.value.name == "app_killed"


def test_an_app_that_never_ends_is_given_up(bench):
    one = bench()
    one.phone.waits = False
    one.phone.is_running = lambda device: True
    with pytest.raises(DeviceProblem, match="still runs") as caught:
        one.run()
    assert caught.value.name == "timed_out"


def test_a_tool_that_does_not_wait_is_waited_for(bench):
    one = bench()
    one.phone.waits = False
    answers = iter([True, True, False, False, True, False])
    one.phone.is_running = lambda device: next(answers)
    check_complete(one, one.run())


def test_jobs_that_were_taken_are_forgotten_on_the_phone(bench, tmp_path):
    one = bench()
    one.run()
    assert (one.phone.folder / f"{one.job.job_id}.outputs.bin").exists()
    host = Host(one.phone, one.phone.devices()[0], sleep=lambda seconds: None)
    outbox = Outbox(tmp_path / "second", replace(one.job, compute_unit="cpuOnly"))
    assert host.run(outbox, one.files, forget=[one.job.job_id]).finished
    assert not list(one.phone.folder.glob(f"{one.job.job_id}.*"))
