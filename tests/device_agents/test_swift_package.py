"""The app's Swift logic behind the Python host: the real program, where Swift is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from device_agents.host import Host, Outbox
from device_agents.this_machine import ThisMachine
from device_agents.transport import LaunchEnd
from tests.device_agents.small_job import make_job

PACKAGE = Path(__file__).parents[2] / "device_agents" / "BenchRunner" / "BenchCore"


class SwiftProgram(ThisMachine):
    """A fresh process of the Swift program per launch."""

    program = ""

    def launch(self, device, *, timeout_s):
        done = subprocess.run([self.program, str(self.mailbox)], timeout=timeout_s, check=True)
        return LaunchEnd(True, -done.returncode)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("swift"), reason="swift is not installed")
def test_the_host_runs_a_job_on_the_swift_program(tmp_path):
    build = ["swift", "build", "--package-path", str(PACKAGE), "--scratch-path", str(tmp_path / "build")]
    subprocess.run(build, check=True, capture_output=True)
    shown = subprocess.run([*build, "--show-bin-path"], check=True, capture_output=True, text=True)
    SwiftProgram.program = str(Path(shown.stdout.strip()) / "benchcore-simulated")
    job, files = make_job(tmp_path / "files")
    machine = SwiftProgram("simulated", tmp_path / "mailbox")
    taken = Host(machine, machine.devices()[0]).run(Outbox(tmp_path / "outbox", job), files)
    assert taken.finished
    assert [body.round_index for body in taken.rounds] == [0, 1, 2]
    assert taken.outputs == files["inputs.bin"].read_bytes()
