"""`--pin` and `[timing] pin`: checked before anything is measured, and part of the protocol."""

from __future__ import annotations

import json
import os

import pytest

from reports.store import Store

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(not CORES, reason="this system does not pin")


def timing(project, *argv: str) -> dict[str, object]:
    return json.loads(project.bench("--suite", "tiny", "--dry-run", "--json", *argv).out)["timing"]


def with_pin(project, pin: str) -> None:
    text = project.config.read_text().replace(
        "deadline_seconds = 30", f'deadline_seconds = 30\npin = "{pin}"'
    )
    project.config.write_text(text)


def test_a_suite_pins_nothing_unless_asked(project):
    assert timing(project)["pin"] == "off"


def test_the_command_line_goes_before_the_file(project):
    with_pin(project, str(CORES[0]))
    assert timing(project)["pin"] == str(CORES[0])
    assert timing(project, "--pin", "off")["pin"] == "off"


@pytest.mark.parametrize("pin", ["99999", "0-99999", "some", "0,0", ""])
def test_cores_that_cannot_be_are_bad_input_and_nothing_is_written(project, pin):
    answer = project.bench("--suite", "tiny", "--pin", pin)
    assert answer.code == 2
    assert "pin" in answer.err
    assert (pin or "''") in answer.err
    assert not (project.folder / "results").exists()


def test_the_same_in_the_file(project):
    with_pin(project, "some")
    answer = project.bench("--suite", "tiny")
    assert answer.code == 2
    assert "timing.pin = 'some'" in answer.err


def test_a_case_with_more_threads_than_cores_is_bad_input(project):
    answer = project.bench("--suite", "tiny", "--threads", "2", "--pin", str(CORES[0]))
    assert answer.code == 2
    assert f"'{CORES[0]}' is too short for a case of 2 threads" in answer.err


def test_a_pinned_run_says_so_in_its_protocol(project):
    core = str(CORES[-1])
    assert project.bench("--suite", "tiny", "--pin", core, "--model", "block/ncb").code == 0
    with Store(project.folder / "results/bench.db", read_only=True) as store:
        run = store.load_run(1)
    assert {r.protocol.options["pinned_cores"] for result in run.results for r in result.rounds} == {core}
    assert run.info.config["timing"]["pin"] == core


def test_a_bundle_keeps_cores_of_another_machine(project):
    answer = project.bench("bundle", "--suite", "tiny", "--pin", "90000", "-o", str(project.folder / "b.tar"))
    assert answer.code == 0, answer.err
    measured = project.bench(
        *("run-bundle", str(project.folder / "b.tar"), "-o", str(project.folder / "r.json")), config=False
    )
    assert measured.code == 2
    assert "core 90000 of '90000' is not there" in measured.err
