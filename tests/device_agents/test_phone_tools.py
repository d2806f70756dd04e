"""devicectl and pymobiledevice3 as external programs, played by a stand-in on PATH."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from device_agents.devicectl import DeviceCtl
from device_agents.external_tools import redacted
from device_agents.host import Host, Outbox
from device_agents.problems import DeviceProblem
from device_agents.pymobiledevice import PyMobileDevice
from device_agents.transport import alias
from tests.device_agents.small_job import make_job

STAND_IN = Path(__file__).parent / "stand_in_tools.py"
UDID = "00008110-001A2B3C4D5E6F70"
TOOLS = {"devicectl": DeviceCtl, "pymobiledevice3": PyMobileDevice}


@pytest.fixture(params=sorted(TOOLS))
def tool(request):
    return TOOLS[request.param]()


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A folder that is the phone, and programs of the right names that talk to it."""
    programs, phone = tmp_path / "bin", tmp_path / "phone"
    programs.mkdir()
    (phone / "mailbox").mkdir(parents=True)
    for name in ("xcrun", "devicectl", "pymobiledevice3"):
        script = programs / name
        script.write_text(
            f"#!{sys.executable} -S\nimport sys\nsys.path.insert(0, {str(STAND_IN.parent)!r})\n"
            f"from stand_in_tools import main\nsys.exit(main([{name!r}, *sys.argv[1:]]))\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_PHONE", str(phone))
    return phone


def run(tool, folder):
    job, files = make_job(folder / "files", rounds_per_launch=3)
    host = Host(tool, tool.devices()[0], sleep=lambda seconds: None)
    return host.run(Outbox(folder / "outbox", job), files)


def test_a_job_runs_through_the_tool(tool, phone, tmp_path):
    taken = run(tool, tmp_path)
    assert taken.finished
    assert [body.round_index for body in taken.rounds] == [0, 1, 2]
    assert taken.outputs == (tmp_path / "files" / "the-inputs").read_bytes()
    assert UDID not in taken.journal.data.decode()


def test_only_phones_are_listed_with_what_can_be_told_of_them(tool, phone):
    (device,) = tool.devices()
    assert (device.model, device.os, device.state) == ("iPhone14,2", "iOS 17.5", "")
    assert device.identifier == UDID
    assert device.alias == alias(UDID)
    assert UDID[-6:] not in device.alias


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("locked", "locked"),
        ("untrusted", "profile_not_trusted"),
        ("expired", "signing_expired"),
        ("missing_app", "app_missing"),
        ("full", "disk_full"),
        ("odd", "tool_failed"),
    ],
)
def test_a_complaint_becomes_a_named_problem(tool, phone, tmp_path, state, name):
    (phone / "state").write_text(state)
    with pytest.raises(DeviceProblem) as caught:
        run(tool, tmp_path)
    assert caught.value.name == name
    assert caught.value.failure().advice
    for secret in (UDID, "ABCDE12345", "somebody"):
        assert secret not in str(caught.value)


def test_a_phone_that_is_unplugged_in_the_middle(tool, phone, tmp_path):
    job, files = make_job(tmp_path / "files", rounds_per_launch=3)
    host = Host(tool, tool.devices()[0], sleep=lambda seconds: None)
    (phone / "state").write_text("unplugged")
    with pytest.raises(DeviceProblem) as caught:
        host.run(Outbox(tmp_path / "outbox", job), files)
    assert caught.value.name == "unplugged"
    (phone / "state").unlink()
    assert host.run(Outbox(tmp_path / "outbox", job), files).finished


def test_developer_mode_is_seen_in_the_list(phone):
    (phone / "state").write_text("developer_mode_off")
    assert DeviceCtl().devices()[0].state == "developer_mode_off"


def test_an_app_killed_for_memory_is_told_by_its_signal(phone, tmp_path):
    (phone / "state").write_text("dies 2")
    with pytest.raises(DeviceProblem) as caught:
        run(DeviceCtl(), tmp_path)
    assert caught.value.name == "out_of_memory"
    assert "signal 9" in str(caught.value)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_missing_program_says_what_to_install(name, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceProblem, match="not on this machine") as caught:
        TOOLS[name]().devices()
    assert caught.value.name == "tool_missing"
    assert "pipx install pymobiledevice3" in caught.value.failure().advice


def test_a_program_that_hangs_is_ended(phone, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(DeviceProblem, match="did not answer") as caught:
        DeviceCtl(command=(str(slow),), seconds=0.2).devices()
    assert caught.value.name == "timed_out"


@pytest.mark.parametrize(
    "secret",
    [
        "00008110-001A2B3C4D5E6F70",
        "1f9e7c3a5b0d2e4f6a8c0b1d3e5f7a9c0b2d4e6f",
        "A1B2C3D4-E5F6-7890-ABCD-EF0123456789",
        "ABCDE12345",
        "/Users/somebody",
    ],
)
def test_whatever_identifies_a_person_or_phone_is_taken_out(secret):
    assert secret not in redacted(f"failed for {secret} in it", "other")


def test_an_identifier_of_any_form_is_replaced_by_its_alias():
    assert redacted("phone my-phone-7 is gone", "my-phone-7") == f"phone {alias('my-phone-7')} is gone"
