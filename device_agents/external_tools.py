"""Running the programs that talk to phones: no shell, a time limit, complaints as named problems."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agents.problems import DeviceProblem
from device_agents.transport import alias

MAX_OUTPUT = 4 << 20
MAX_MESSAGE = 300
# The words of devicectl (Xcode 16) and pymobiledevice3, the more telling first: CoreDeviceError 10002 is any
# launch that failed, so the reason behind it decides.
COMPLAINTS = (
    ("locked", r"\bLocked\b|could not be, unlocked|is locked|DeviceLocked|Password(Protected|Required)"),
    ("signing_expired", r"(profile|signature|certificate)[^.]{0,80}expired|0xe8008011"),
    ("profile_not_trusted", r"explicitly trusted|invalid code signature|inadequate entitlements"),
    ("developer_mode_off", r"[Dd]eveloper ?[Mm]ode"),
    ("not_trusted", r"not paired|PairingDialogResponsePending|UserDeniedPairing|InvalidHostID|NotPaired"),
    ("disk_full", r"No space left|ENOSPC|not enough (free )?(disk )?space|insufficient (space|storage)"),
    (
        "app_missing",
        r"AppNotInstalled|not installed|ApplicationLookupFailed|application is unknown"
        r"|[Uu]nable to find (an )?app",
    ),
    (
        "unplugged",
        r"NoDeviceConnected|DeviceNotFound|ConnectionTerminated|ConnectionFailed|MuxException|disconnected"
        r"|not connected|specified device was not found|is unavailable|Device is not connected|BadDev",
    ),
)  # fmt: skip
NO_FILE = (
    r"No such file|does not exist|FileNotFound|OBJECT_NOT_FOUND|couldn.t be opened because there is no such"
)


class ToolFailed(Exception):
    """The program ended with an error; `text` is all that it said."""

    def __init__(self, command: Sequence[str], text: str) -> None:
        super().__init__(text)
        self.command, self.text = command, text


def run_tool(command: Sequence[str], *, timeout_s: float) -> str:
    """What the program printed. Raises ToolFailed, and DeviceProblem `tool_missing` and `timed_out`."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise DeviceProblem("tool_missing", f"the program '{command[0]}' is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise DeviceProblem("timed_out", f"{command[0]} did not answer within {timeout_s:.0f} s") from None
    text, complaint = (part[:MAX_OUTPUT].decode(errors="replace") for part in (done.stdout, done.stderr))
    if done.returncode:
        raise ToolFailed(command, f"{complaint}\n{text}".strip())
    return text


def problem_of(failed: ToolFailed, identifier: str) -> DeviceProblem:
    """The named problem behind a tool's complaint; what identifies the phone is taken out of the message."""
    name = next((name for name, words in COMPLAINTS if re.search(words, failed.text)), "tool_failed")
    told = redacted(" ".join(failed.text.split()), identifier)[:MAX_MESSAGE]
    command = redacted(" ".join(failed.command[:6]), identifier)
    return DeviceProblem(name, f"{command}: {told or 'it failed without a word'}")


def redacted(text: str, identifier: str) -> str:
    """Without the identifier, other identifiers of Apple's forms, home folders and team identifiers."""
    if identifier:
        text = text.replace(identifier, alias(identifier))
    text = re.sub(
        r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b", "(id)", text
    )
    text = re.sub(r"\b([0-9A-Fa-f]{8}-[0-9A-Fa-f]{16}|[0-9a-f]{40})\b", "(id)", text)
    text = re.sub(r"\b(?=[A-Z0-9]*[0-9])(?=[A-Z0-9]*[A-Z])[A-Z0-9]{10}\b", "(team)", text)
    return re.sub(r"(/Users|/home)/[^/\s]+", r"\1/(user)", text)


def json_of(text: str, what: str) -> Any:
    """What a tool said in JSON. Raises DeviceProblem."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DeviceProblem("tool_failed", f"{what} said something that is no JSON") from None


def text_in(table: Mapping[str, Any], *path: str) -> str:
    """A text some levels down; empty where there is none. At most 128 characters."""
    value: Any = table
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value[:128] if isinstance(value, str) else ""


def read_text(path: Path) -> str:
    """A file that a tool wrote; empty where it did not."""
    if not path.is_file() or path.stat().st_size > MAX_OUTPUT:
        return ""
    return path.read_text(errors="replace")
