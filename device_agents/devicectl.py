"""Apple's `xcrun devicectl` on a Mac (Xcode 15 or newer) as a transport. Tested against a stand-in alone."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agents.external_tools import (
    NO_FILE,
    ToolFailed,
    json_of,
    problem_of,
    read_text,
    run_tool,
    text_in,
)
from device_agents.problems import DeviceProblem
from device_agents.transport import BUNDLE_ID, Device, LaunchEnd

_ENDED = re.compile(r"terminated due to signal (\d{1,2})|exited (?:due to|with) signal (\d{1,2})")


@dataclass(frozen=True, slots=True)
class DeviceCtl:
    """`command` is what is run before the arguments; `seconds` how long a copy may take."""

    command: tuple[str, ...] = ("xcrun", "devicectl")
    bundle_id: str = BUNDLE_ID
    seconds: float = 300.0
    name: str = "devicectl"

    def devices(self) -> list[Device]:
        answer, _ = self._run(["list", "devices"], "")
        found = (
            answer.get("result", {}).get("devices", []) if isinstance(answer.get("result"), Mapping) else []
        )
        if not isinstance(found, list):
            raise DeviceProblem("tool_failed", "devicectl listed no devices in its JSON")
        return [_device(entry) for entry in found if isinstance(entry, Mapping) and _is_mobile(entry)]

    def install(self, device: Device, app: Path) -> None:
        self._run(
            ["device", "install", "app", "--device", device.identifier, str(app.resolve())], device.identifier
        )

    def push(self, device: Device, source: Path, name: str) -> None:
        copied = ["--source", str(source.resolve()), "--destination", f"Documents/{name}"]
        self._run(["device", "copy", "to", *self._container(device), *copied], device.identifier)

    def pull(self, device: Device, name: str, target: Path) -> bool:
        copied = ["--source", f"Documents/{name}", "--destination", str(target.resolve())]
        try:
            self._run(
                ["device", "copy", "from", *self._container(device), *copied], device.identifier, raw=True
            )
        except ToolFailed as failed:
            problem = problem_of(failed, device.identifier)
            if problem.name == "tool_failed" and re.search(NO_FILE, failed.text):
                return False
            raise problem from None
        return target.is_file()

    def launch(self, device: Device, *, timeout_s: float) -> LaunchEnd:
        arguments = ["device", "process", "launch", "--console", "--terminate-existing"]
        arguments += ["--device", device.identifier, self.bundle_id]
        try:
            _, text = self._run(arguments, device.identifier, raw=True, seconds=timeout_s)
        except ToolFailed as failed:
            ended = _ENDED.search(failed.text)
            if ended is None:
                raise problem_of(failed, device.identifier) from None
            return LaunchEnd(True, int(ended[1] or ended[2]))
        ended = _ENDED.search(text)
        return LaunchEnd(True, int(ended[1] or ended[2]) if ended else 0)

    def is_running(self, device: Device) -> bool:
        """`--console` has waited for the end."""
        return False

    def _container(self, device: Device) -> Sequence[str]:
        place = [
            "--domain-type",
            "appDataContainer",
            "--domain-identifier",
            self.bundle_id,
            "--user",
            "mobile",
        ]
        return ["--device", device.identifier, *place]

    def _run(
        self, arguments: Sequence[str], identifier: str, *, raw: bool = False, seconds: float = 0
    ) -> tuple[dict[str, Any], str]:
        """(its JSON answer, what it printed). Raises DeviceProblem, or ToolFailed where `raw`."""
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            command = [*self.command, *arguments, "--json-output", str(answer)]
            try:
                text = run_tool(command, timeout_s=seconds or self.seconds)
            except ToolFailed as failed:
                whole = ToolFailed(failed.command, f"{failed.text} {read_text(answer)}")
                raise whole if raw else problem_of(whole, identifier) from None
            value = json_of(read_text(answer) or "{}", "devicectl")
        return value if isinstance(value, dict) else {}, text


def _is_mobile(entry: Mapping[str, Any]) -> bool:
    return text_in(entry, "hardwareProperties", "deviceType").lower() in ("iphone", "ipad")


def _device(entry: Mapping[str, Any]) -> Device:
    system = text_in(entry, "deviceProperties", "osVersionNumber")
    return Device(
        identifier=text_in(entry, "identifier"),
        model=text_in(entry, "hardwareProperties", "productType"),
        os=f"iOS {system}",
        transport="devicectl",
        state=_state(entry),
    )


def _state(entry: Mapping[str, Any]) -> str:
    """`disconnected` is a phone in reach: its tunnel is made when it is needed."""
    if text_in(entry, "connectionProperties", "pairingState") not in ("", "paired"):
        return "not_trusted"
    if text_in(entry, "connectionProperties", "tunnelState") == "unavailable":
        return "unplugged"
    if text_in(entry, "deviceProperties", "developerModeStatus") == "disabled":
        return "developer_mode_off"
    return ""
