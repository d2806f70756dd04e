"""The machine itself as a device: a mailbox in a folder, and a fresh process per launch."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from device_agents.problems import DeviceProblem
from device_agents.transport import Device, LaunchEnd

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """`engine` is a key of agent_process.ENGINES; `mailbox` plays the phone's folder."""

    engine: str
    mailbox: Path

    @property
    def name(self) -> str:
        return self.engine

    def devices(self) -> list[Device]:
        self.mailbox.mkdir(parents=True, exist_ok=True)
        return [Device(f"this machine {self.engine}", platform.machine(), platform.system(), self.engine)]

    def install(self, device: Device, app: Path) -> None:
        raise DeviceProblem("tool_failed", "nothing is installed on the machine itself")

    def push(self, device: Device, source: Path, name: str) -> None:
        shutil.copyfile(source, self.mailbox / name)

    def pull(self, device: Device, name: str, target: Path) -> bool:
        if not (self.mailbox / name).is_file():
            return False
        shutil.copyfile(self.mailbox / name, target)
        return True

    def launch(self, device: Device, *, timeout_s: float) -> LaunchEnd:
        """Raises DeviceProblem `tool_failed` with the agent's last words where it ended with an error."""
        command = [sys.executable, "-m", "device_agents.agent_process", self.engine, str(self.mailbox)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DeviceProblem("timed_out", f"the agent did not end within {timeout_s:.0f} s") from None
        if done.returncode > 0:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise DeviceProblem(
                "tool_failed", f"the agent ended with an error: {words[-1:] or 'no word'}"[:300]
            )
        return LaunchEnd(True, -done.returncode)

    def is_running(self, device: Device) -> bool:
        return False
