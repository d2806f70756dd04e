"""Everything that goes wrong with a phone, by name: what happened and what its user does next.

The names travel: the app writes them into its journal, the host into a Failure's detail and the report.
"""

from __future__ import annotations

from dataclasses import dataclass

from runners.measurement import Failure

RESUMES = "Then give the same command again: it goes on where it stopped."


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is the Failure's; `advice` the user's next step; `passing` problems end without new work."""

    kind: str
    advice: str
    passing: bool = False


PROBLEMS: dict[str, Problem] = {
    "locked": Problem("unavailable", f"Unlock the phone and keep it unlocked. {RESUMES}", True),
    "unplugged": Problem(
        "unavailable", f"Plug the phone in and wait until the computer lists it. {RESUMES}", True
    ),
    "not_trusted": Problem(
        "unavailable", f"Unlock the phone and answer “Trust This Computer?” with Trust. {RESUMES}", True
    ),
    "developer_mode_off": Problem(
        "unavailable",
        "On the phone: Settings, Privacy & Security, Developer Mode, on; it restarts.",
        True,
    ),
    "app_missing": Problem(
        "unavailable", "Install BenchRunner first: docs/iphone.md says how to build and sign it.", True
    ),
    "profile_not_trusted": Problem(
        "unavailable",
        "On the phone: Settings, General, VPN & Device Management, the developer's name, Trust. Where it is"
        " trusted, the signature has expired: build and install BenchRunner again.",
        True,
    ),
    "signing_expired": Problem(
        "unavailable",
        "Build and install BenchRunner again: a free team's signature lasts 7 days.",
        True,
    ),
    "tool_missing": Problem(
        "unavailable",
        "Install Xcode 16 on a Mac (devicectl), or on Linux: pipx install pymobiledevice3.",
        True,
    ),
    "tool_failed": Problem("unavailable", f"Run the printed command by hand to see why. {RESUMES}", True),
    "timed_out": Problem(
        "deadline", f"Look at the phone: is BenchRunner in front and the phone awake? {RESUMES}", True
    ),
    "app_killed": Problem(
        "crashed",
        "Close other apps and restart the phone; then try one compute unit at a time: the step that it"
        " died in is named.",
    ),
    "out_of_memory": Problem(
        "out_of_memory",
        "Close other apps, take a smaller resolution or batch size, or weights with fewer bits.",
    ),
    "disk_full": Problem("load", f"Free some space on the phone. {RESUMES}", True),
    "compile_failed": Problem(
        "load",
        "Read Core ML's message; convert with another minimum_deployment_target or precision.",
    ),
    "specification_too_new": Problem(
        "load",
        "Convert with an older minimum_deployment_target (--build minimum_deployment_target=iOS16), or"
        " update the phone.",
    ),
    "load_failed": Problem(
        "load",
        "Try the compute unit cpuOnly: where that loads, the accelerator's compiler refused the model.",
    ),
    "predict_failed": Problem(
        "infer", "Try the compute unit cpuOnly, and verify the package on this machine."
    ),
    "clock_failed": Problem("infer", "Restart the phone: its clock stood still or went backwards."),
    "bad_model": Problem("bad_artifact", "The file was damaged on its way: measure again with --fresh."),
    "bad_job": Problem(
        "bad_artifact", "App and host are of different versions: build and install BenchRunner again."
    ),
    "journal_damaged": Problem(
        "bad_artifact",
        "The phone's journal is not what was taken from it before: measure again with --fresh.",
    ),
}


class DeviceProblem(Exception):
    """A problem by name, with what was seen of it."""

    def __init__(self, name: str, message: str, **detail: str | int) -> None:
        super().__init__(message)
        self.name = name
        self.detail = detail

    @property
    def problem(self) -> Problem:
        return PROBLEMS[self.name]

    def failure(self) -> Failure:
        return Failure(
            self.problem.kind,
            str(self),
            self.problem.advice,
            built=self.problem.kind == "unavailable",
            detail={"problem": self.name, **self.detail},
        )
