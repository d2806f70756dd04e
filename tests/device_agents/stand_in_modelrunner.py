"""Plays `xcrun devicectl` and the runner app of coremltools behind it: JSON-RPC through files of a mailbox.

Written for the standard library alone, so that a call costs little. STAND_IN_PHONE is the phone's folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

PHONE = Path(os.environ["STAND_IN_PHONE"])
UDID = "00008110-001A2B3C4D5E6F70"


def main(words: list[str]) -> int:
    words = [word for word in words if word != "devicectl"]
    if words[:3] == ["device", "process", "launch"]:
        time.sleep(60)
        return 0
    result = answer(words)
    if result is None:
        print("ERROR: no such file", file=sys.stderr)
        return 1
    Path(option(words, "-j")).write_text(json.dumps({"result": result}))
    return 0


def answer(words: list[str]) -> dict[str, object] | None:
    if words[:2] == ["list", "devices"]:
        return {"devices": [{
            "identifier": UDID,
            "connectionProperties": {"tunnelState": "connected"},
            "deviceProperties": {"name": "a phone", "osVersionNumber": "17.5", "osBuildUpdate": "21F79"},
            "hardwareProperties": {"deviceType": "iPhone", "udid": UDID},
        }]}  # fmt: skip
    if words[:3] == ["device", "install", "app"]:
        return {"installedApplications": [{"bundleID": "com.coremltools.modelrunnerd", "databaseUUID": "1"}]}
    source, destination = option(words, "--source"), option(words, "--destination")
    if words[2] == "to":
        copied(Path(source), PHONE / destination)
        if destination.endswith("message.json"):
            respond(PHONE / destination)
    elif not (PHONE / source).exists():
        return None
    else:
        copied(PHONE / source, Path(destination))
    return {"source": source, "destination": destination}


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def count(method: str) -> int:
    with (PHONE / "methods").open("a") as file:
        file.write(f"{method}\n")
    return (PHONE / "methods").read_text().split().count(method)


def respond(path: Path) -> None:
    message = json.loads(path.read_text())
    method, params = message["method"], message["params"]
    number = count(method)
    folder = path.parents[3] / "responses" / message["id"]
    folder.mkdir(parents=True)
    response: dict[str, object] = {"jsonrpc": "2.0", "id": message["id"]}
    result = {"modelID": params["modelID"]}
    if (PHONE / "error").exists():
        response["error"] = {"code": 1, "message": (PHONE / "error").read_text()}
    elif method == "MLModelService.Load":
        assert (path.parents[2] / "resources" / message["id"] / message["resource"] / "model.mil").is_file()
        response["result"] = {**result, "duration": 50_000_000 + number}
    elif method == "MLModelService.Prediction":
        data = path.parents[2] / "resources" / message["id"] / message["resource"]
        shutil.copyfile(data, folder / "outputs.bin")
        response["resource"] = "outputs.bin"
        outputs = {f"{name}_out": value for name, value in params["inputs"].items()}
        response["result"] = {**result, "duration": 2_000_000 + number, "outputs": outputs}
    else:
        response["result"] = result
    (folder / "message.json").write_text(json.dumps(response))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
