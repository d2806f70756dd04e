"""The case that stands for the file of an earlier run, where it is measured beside the present one's."""

from __future__ import annotations

from dataclasses import replace

from models.spec import Case, sorted_options

_OPTION = "baseline"


def baseline_of(case: Case, sha256: str) -> Case:
    """The same case with the earlier file's sha256 among its build options: a run holds a case once."""
    return replace(case, build=sorted_options({**dict(case.build), _OPTION: sha256[:12]}))


def is_baseline(case: Case) -> bool:
    return any(name == _OPTION for name, _ in case.build)
