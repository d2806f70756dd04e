"""`parts = true`: a network's parts are cases too, and the run knows which are whose."""

from __future__ import annotations

import pytest

from commands import UsageError
from commands.config import load
from commands.plan import Overrides, make

PARTS = """
[suites.apart]
description = "One network in parts"

[[suites.apart.matrix]]
models = ["nextvit_small"]
resolutions = [224]
parts = true
"""


@pytest.fixture
def config(project):
    project.add(PARTS)
    return load(project.config)


def test_parts_are_planned_with_their_network(config):
    plan = make(config, "apart", Overrides(threads=(1, 2)), {})
    cases = {case.id: case for case in plan.cases}
    assert len(cases) == 2 * (1 + 14)
    assert len(plan.parts) == 2
    for whole_id, parts in plan.parts.items():
        whole = cases[whole_id]
        assert whole.model.name == "nextvit_small"
        assert [path for path, _ in parts[:2]] == ["stem", "stages.0.0"]
        assert len(parts) == 22
        assert {cases[part_id].threads for _, part_id in parts} == {whole.threads}
        assert cases[parts[0][1]].model.name == "nextvit_stem"


def test_parts_follow_the_resolution_that_is_asked_for(config):
    plan = make(config, "apart", Overrides(resolutions=("192",)), {})
    assert {case.model.resolution for case in plan.cases} == {192, 48, 24, 12, 6}


def test_a_suite_without_parts_has_none(config):
    assert make(config, "nets", Overrides(), {}).parts == {}


def test_a_network_that_cannot_be_taken_apart_is_refused(config, project):
    with pytest.raises(UsageError, match="timm/resnet50: its parts are not known"):
        make(config, "apart", Overrides(models=("timm/resnet50",)), {})
    answer = project.bench("--suite", "apart", "--model", "timm/resnet50")
    assert answer.code == 2
    assert "Traceback" not in answer.err
