"""`--profile` and `profile = true`: which runs take a profile, and what cannot."""

from __future__ import annotations

import pytest

from commands import UsageError
from commands.config import load
from commands.plan import Overrides, make
from commands.profiling import is_profiled


def plan(project, *, profile: bool = False, **overrides):
    return make(load(project.config), "nets", Overrides(**overrides), {}, profile=profile)


def test_a_profile_is_taken_where_it_is_asked_for(project):
    assert not plan(project).profile
    assert plan(project, profile=True).profile
    text = project.config.read_text()
    project.config.write_text(text.replace('"Two networks"', '"Two networks"\nprofile = true'))
    assert plan(project).profile


def test_a_run_without_profiles_is_not_continued_with_them(project):
    bare, profiled = plan(project), plan(project, profile=True)
    assert bare.cases == profiled.cases
    assert bare.digest("machine", {}) != profiled.digest("machine", {})


def test_profiles_that_no_backend_has_are_refused(project):
    with pytest.raises(UsageError, match=r"--profile: .* onnxruntime \(cpu\)"):
        plan(project, profile=True, backends=("torch",))
    answer = project.bench("--suite", "tiny", "--profile")
    assert answer.code == 2
    assert "--profile" in answer.err
    assert not (project.folder / "results").exists()


def test_some_cases_of_a_suite_may_go_without(project):
    cases = plan(project, profile=True, backends=("torch", "onnxruntime")).cases
    assert {case.backend for case in cases if is_profiled(case)} == {"onnxruntime"}
