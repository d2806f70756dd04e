"""Files of a run of networks by pattern: let go batch by batch, and no other run's with them."""

from __future__ import annotations

import json

import pytest

from commands import batches
from converters.cache import ArtifactCache

SUITE = """
[cache]
max_batched = "{size}"

[suites.zoo]
description = "Small real networks by pattern"
backends = ["onnxruntime"]

[suites.zoo.timing]
min_rounds = 2
max_rounds = 2
round_seconds = 0.05
warmup_seconds = 0.02

[[suites.zoo.matrix]]
models = ["timm/test_resnet"]
resolutions = [64]
"""
PATTERN = "timm/test_resnet*,timm/test_mambaout*,timm/test_convnext"


@pytest.fixture
def zoo(project, monkeypatch):
    """One network a batch, and one file of an earlier run in the cache."""
    monkeypatch.setattr(batches, "NETWORKS", 1)

    def with_limit(size: str):
        project.add(SUITE.format(size=size))
        first = project.bench("--suite", "zoo", "--model", "timm/test_resnet")
        assert first.code == 0, first.err
        return project

    return with_limit


def kept(project) -> set[str]:
    return set(ArtifactCache(project.folder / "artifacts").keys())


def measured(answer) -> list[str]:
    cases = json.loads(answer.out)["cases"]
    assert all(case["failure"] is None for case in cases), answer.err
    return sorted(case["case"]["model"]["name"] for case in cases)


def test_own_files_go_batch_by_batch_and_older_ones_stay(zoo, monkeypatch):
    project = zoo("1 KB")
    older = kept(project)
    held = []
    let_go = batches.BatchedRun._let_go

    def watched(run, root):
        held.append(len(kept(project) - older))
        let_go(run, root)

    monkeypatch.setattr(batches.BatchedRun, "_let_go", watched)
    answer = project.bench("--suite", "zoo", "--model", PATTERN, "--json")
    assert answer.code == 0, answer.err
    names = measured(answer)
    assert len(names) == 3
    assert older
    assert kept(project) == older
    assert sorted(held) == [0, 1, 1]  # never two batches' files at once; one network's were there before


def test_within_the_size_they_are_kept(zoo):
    project = zoo("1 GB")
    older = kept(project)
    answer = project.bench("--suite", "zoo", "--model", PATTERN, "--json")
    assert answer.code == 0, answer.err
    assert len(kept(project) - older) == len(measured(answer)) - 1


def test_a_batch_ends_where_its_files_fill_the_size(zoo, monkeypatch):
    """Networks that a full batch left out are in the next ones: all are measured, each once."""
    monkeypatch.setattr(batches, "NETWORKS", 16)
    sizes = []
    measure = batches.BatchedRun._measure
    monkeypatch.setattr(
        batches.BatchedRun,
        "_measure",
        lambda run, batch, seconds: (sizes.append(len(batch)), measure(run, batch, seconds)),
    )
    project = zoo("1 KB")
    answer = project.bench("--suite", "zoo", "--model", PATTERN, "--json")
    assert answer.code == 0, answer.err
    assert len(measured(answer)) == 3 == sum(sizes)
    assert len(sizes) > 1
