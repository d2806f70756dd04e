"""The command line of pymobiledevice3 as a transport, for phones on a Linux machine (iOS 17.4 or newer, USB).

It is GPL-3.0: an external program that the user installs, never imported. Tested against a stand-in alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device_agents.external_tools import NO_FILE, ToolFailed, json_of, problem_of, run_tool, text_in
from device_agents.problems import DeviceProblem
from device_agents.transport import BUNDLE_ID, Device, LaunchEnd

_PID = re.compile(r"launched with pid (\d{1,10})")


@dataclass
class PyMobileDevice:
    """`processes` remembers which process was launched on which phone."""

    command: tuple[str, ...] = ("pymobiledevice3",)
    bundle_id: str = BUNDLE_ID
    seconds: float = 300.0
    name: str = "pymobiledevice3"
    processes: dict[str, int] = field(default_factory=dict)

    def devices(self) -> list[Device]:
        found = json_of(self._run(["usbmux", "list"], ""), self.name)
        if not isinstance(found, list):
            raise DeviceProblem("tool_failed", f"{self.name} listed no devices in its JSON")
        return [
            Device(
                identifier=text_in(entry, "Identifier") or text_in(entry, "UniqueDeviceID"),
                model=text_in(entry, "ProductType"),
                os=f"iOS {text_in(entry, 'ProductVersion')}",
                transport=self.name,
            )
            for entry in found
            if isinstance(entry, Mapping) and text_in(entry, "ConnectionType") in ("", "USB")
        ]

    def install(self, device: Device, app: Path) -> None:
        self._on(device, ["apps", "install", str(app.resolve()), "--developer"])

    def push(self, device: Device, source: Path, name: str) -> None:
        self._on(device, ["apps", "push", self.bundle_id, str(source.resolve()), f"Documents/{name}"])

    def pull(self, device: Device, name: str, target: Path) -> bool:
        command = ["apps", "pull", self.bundle_id, f"Documents/{name}", str(target.resolve())]
        try:
            self._run([*command, "--udid", device.identifier], device.identifier, raw=True)
        except ToolFailed as failed:
            problem = problem_of(failed, device.identifier)
            if problem.name == "tool_failed" and re.search(NO_FILE, failed.text):
                return False
            raise problem from None
        return target.is_file()

    def launch(self, device: Device, *, timeout_s: float) -> LaunchEnd:
        """It returns at once: the host then asks whether the process still runs."""
        text = self._on(device, ["developer", "dvt", "launch", self.bundle_id])
        found = _PID.search(text)
        if found is None:
            raise DeviceProblem("tool_failed", f"{self.name} did not tell which process it launched")
        self.processes[device.identifier] = int(found[1])
        return LaunchEnd(False)

    def is_running(self, device: Device) -> bool:
        process = self.processes[device.identifier]
        text = self._on(device, ["developer", "dvt", "is-running-pid", str(process)])
        return text.strip().lower().endswith("true")

    def _on(self, device: Device, arguments: Sequence[str]) -> str:
        return self._run([*arguments, "--udid", device.identifier], device.identifier)

    def _run(self, arguments: Sequence[str], identifier: str, *, raw: bool = False) -> str:
        try:
            return run_tool([*self.command, *arguments], timeout_s=self.seconds)
        except ToolFailed as failed:
            raise failed if raw else problem_of(failed, identifier) from None
