# ruff: noqa: E501 - the complaints are whole
"""Plays `xcrun devicectl` and `pymobiledevice3` with a simulated phone behind them, one process per call.

STAND_IN_PHONE names the phone's folder: `mailbox/` is the app's Documents, `state` holds words such as
`locked` or `unplugged`, and `calls` gets a line per call. It is a test's program, in no package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

PHONE = Path(os.environ["STAND_IN_PHONE"])
UDID = "00008110-001A2B3C4D5E6F70"
STATE = (PHONE / "state").read_text().split() if (PHONE / "state").exists() else []
COMPLAINTS = {
    "devicectl": {
        "locked": "ERROR: The application failed to launch. (com.apple.dt.CoreDeviceError error 10002 (0x2712))"
        " Unable to launch because the device was not, or could not be, unlocked. BSErrorCodeDescription = Locked",
        "untrusted": "ERROR: The application failed to launch. (com.apple.dt.CoreDeviceError error 10002)"
        " it has an invalid code signature, inadequate entitlements or its profile has not been explicitly"
        " trusted by the user.",
        "expired": "ERROR: Failed to install the app on the device. The provisioning profile has expired. (0xe8008011)",
        "unplugged": f"ERROR: The specified device was not found. (com.apple.dt.CoreDeviceError error 1000) {UDID}",
        "missing_app": "ERROR: The requested application is not installed. ABCDE12345 /Users/somebody/x",
        "full": "ERROR: No space left on device",
        "odd": f"ERROR: something else about {UDID} of team ABCDE12345 in /Users/somebody/x",
    },
    "pymobiledevice3": {
        "locked": "ERROR    PasswordProtected: device is locked",
        "untrusted": "ERROR    invalid code signature, inadequate entitlements or its profile has not been explicitly"
        " trusted by the user",
        "expired": "ERROR    the signature of the profile has expired",
        "unplugged": "ERROR    Device is not connected NoDeviceConnectedError",
        "missing_app": "ERROR    AppNotInstalledError",
        "full": "ERROR    ENOSPC",
        "odd": f"ERROR    something else about {UDID} of team ABCDE12345 in /home/somebody/x",
    },
}


def main(arguments: list[str]) -> int:
    tool = Path(arguments[0]).name
    words = [word for word in arguments[1:] if word != "devicectl"]
    tool = "devicectl" if tool in ("xcrun", "devicectl") else tool
    with (PHONE / "calls").open("a") as file:
        file.write(f"{tool} {' '.join(words)}\n")
    allowed = ("list", "usbmux") if "unplugged" not in STATE else ("usbmux",)
    for name, text in COMPLAINTS[tool].items():
        if name in STATE and words[0] not in allowed and _concerns(name, words):
            print(text, file=sys.stderr)
            return 1
    return (devicectl if tool == "devicectl" else pymobiledevice3)(words)


def _concerns(name: str, words: list[str]) -> bool:
    launching = "launch" in words or "install" in words
    return launching if name in ("locked", "untrusted", "expired", "missing_app") else True


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def devicectl(words: list[str]) -> int:
    answer = Path(option(words, "--json-output"))
    if words[:2] == ["list", "devices"]:
        answer.write_text(json.dumps({"result": {"devices": [*listed(), {"identifier": "no phone"}, 7]}}))
    elif words[:3] == ["device", "install", "app"]:
        (PHONE / "installed").write_text(words[5])
    elif words[:2] == ["device", "copy"]:
        check_device(option(words, "--device"))
        assert option(words, "--domain-type") == "appDataContainer"
        source, destination = option(words, "--source"), option(words, "--destination")
        return copy_to(source, destination) if words[2] == "to" else copy_from(source, destination)
    elif words[:3] == ["device", "process", "launch"]:
        check_device(option(words, "--device"))
        signal = run_app()
        if signal:
            print(f"App terminated due to signal {signal}.")
            return 1
    return 0


def pymobiledevice3(words: list[str]) -> int:
    if words[:2] == ["usbmux", "list"]:
        unplugged = "unplugged" in STATE
        print(json.dumps([] if unplugged else [
            {"ConnectionType": "USB", "Identifier": UDID, "ProductType": "iPhone14,2", "ProductVersion": "17.5"},
            {"ConnectionType": "Network", "Identifier": UDID, "ProductType": "iPhone14,2", "ProductVersion": "17.5"},
        ]))  # fmt: skip
        return 0
    check_device(option(words, "--udid"))
    if words[:2] == ["apps", "push"]:
        return copy_to(words[3], words[4])
    if words[:2] == ["apps", "pull"]:
        return copy_from(words[3], words[4])
    if words[:3] == ["developer", "dvt", "launch"]:
        run_app()
        print("Process launched with pid 321")
    elif words[:3] == ["developer", "dvt", "is-running-pid"]:
        assert words[3] == "321"
        print("false")
    return 0


def listed() -> list[dict[str, object]]:
    state = "unavailable" if "unplugged" in STATE else "connected"
    return [
        {
            "identifier": UDID,
            "connectionProperties": {"tunnelState": state, "pairingState": "paired"},
            "deviceProperties": {
                "name": "Somebody's iPhone", "osVersionNumber": "17.5", "osBuildUpdate": "21F79",
                "developerModeStatus": "disabled" if "developer_mode_off" in STATE else "enabled",
            },
            "hardwareProperties": {"deviceType": "iPhone", "productType": "iPhone14,2", "udid": UDID},
        },
        {
            "identifier": "a watch",
            "hardwareProperties": {"deviceType": "appleWatch"},
        },
    ]  # fmt: skip


def check_device(identifier: str) -> None:
    assert identifier == UDID, identifier


def copy_to(source: str, destination: str) -> int:
    (PHONE / "mailbox" / destination.removeprefix("Documents/")).write_bytes(Path(source).read_bytes())
    return 0


def copy_from(source: str, destination: str) -> int:
    path = PHONE / "mailbox" / source.removeprefix("Documents/")
    if not path.exists():
        print(f"ERROR: {source}: No such file or directory", file=sys.stderr)
        return 1
    Path(destination).write_bytes(path.read_bytes())
    return 0


def run_app() -> int:
    """The signal that ended it, 0 if none: `dies N` in the state kills it at its N-th append."""
    import site

    site.main()  # the other calls do without installed packages
    from device_agents import app
    from device_agents.simulated_engine import SimulatedEngine
    from device_agents.simulated_phone import Fault, SimulatedPhone

    if "dies" in STATE:
        number = int(STATE[STATE.index("dies") + 1])
        phone = SimulatedPhone(PHONE / "mailbox", (Fault("memory", "append", number),))
        return phone._run_app().signal
    app.start(PHONE / "mailbox", SimulatedEngine())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
