"""Profiles by layer: which cases can have one, and the order to take it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from commands import UsageError
from models.spec import Case
from runners import backend_info, backend_names, parse_device
from runners.measurement import Job


def check_profile(cases: Iterable[Case], *, asked: bool) -> None:
    """Raises UsageError where profiles are asked for and no case can have one. The others go without."""
    if asked and not any(is_profiled(case) for case in cases):
        infos = [backend_info(name) for name in backend_names()]
        able = ", ".join(f"{info.name} ({', '.join(info.profiled)})" for info in infos if info.profiled)
        raise UsageError(
            f"--profile: no case of the suite can have one: backends that tell theirs are {able}"
        )


def is_profiled(case: Case) -> bool:
    """Does its runtime tell where its time goes, on its device?"""
    return parse_device(case.device)[0] in backend_info(case.backend).profiled


def with_profile(job: Job) -> Job:
    """The job of a case whose first round ends with a profile; runners that have none take none."""
    return replace(job, options={**job.options, "profile": True})
