"""`cache`: what is there, what a size leaves of it, and a limit that suites keep."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest

from converters.cache import ArtifactCache
from converters.cache_use import leased

LIMIT = """
[cache]
max_artifacts = "{size}"
"""


@pytest.fixture(scope="module")
def carried() -> ModuleType:
    spec = importlib.util.spec_from_file_location("carried_cache", Path(__file__).with_name("carried.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def filled(project, carried):
    """Two networks' files, as if converted: each about 2.4 MB of inputs and references."""
    carried.put(project, "nets", "onnxruntime", carried.relu_graph)
    return project


def count(project) -> int:
    return len(ArtifactCache(project.folder / "artifacts").keys())


def limit(project, size: str) -> None:
    text = project.config.read_text()
    project.config.write_text(text.replace("\n[suites.tiny]", LIMIT.format(size=size) + "\n[suites.tiny]"))


def test_the_list_names_models_backends_and_sizes(filled):
    answer = filled.bench("cache")
    assert answer.code == 0, answer.err
    assert "timm/resnet50" in answer.out
    assert "onnxruntime, openvino" in answer.out
    assert "2 artifacts" in answer.out
    value = json.loads(filled.bench("cache", "list", "--json").out)
    assert value["count"] == 2
    assert [row["model"] for row in value["models"]] == ["nextvit_small", "timm/resnet50"]
    assert value["total_bytes"] >= sum(row["size_bytes"] for row in value["models"]) > 4_000_000


def test_a_dry_run_tells_and_a_trim_does(filled):
    foreseen = filled.bench("cache", "trim", "--max-size", "3 MB", "--dry-run")
    assert "would remove 1 artifact" in foreseen.out
    assert count(filled) == 2
    done = json.loads(filled.bench("cache", "trim", "--max-size", "3 MB", "--json").out)
    assert len(done["removed"]) == 1
    assert done["left_bytes"] <= 3_000_000
    assert count(filled) == 1


def test_clear_leaves_what_a_process_uses_and_says_so(filled):
    root = filled.folder / "artifacts"
    key = ArtifactCache(root).keys()[0]
    with leased(root, [key]):
        answer = filled.bench("cache", "clear")
        assert "removed 1 artifact" in answer.out
        assert "kept 1 artifact that process" in answer.out
        assert ArtifactCache(root).keys() == [key]
    assert "removed 1 artifact" in filled.bench("cache", "clear").out
    assert count(filled) == 0
    assert filled.bench("cache", "clear").code == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cache", "shrink"], "unknown action 'shrink'"),
        (["cache", "trim"], "Give --max-size"),
        (["cache", "trim", "--max-size", "many"], "'many' is not a size"),
        (["cache", "trim", "--max-size", "0"], "'0' is not a size"),
        (["cache", "trim", "--max-size", "1 kB"], "less than the smallest artifact"),
        (["cache", "clear", "--max-size", "1 GB"], "is for `cache trim`"),
    ],
)
def test_bad_input_removes_nothing(filled, argv, said):
    answer = filled.bench(*argv)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""
    assert count(filled) == 2


def test_a_folder_that_is_none_is_told(project):
    (project.folder / "artifacts").write_text("")
    answer = project.bench("cache")
    assert answer.code == 2
    assert "is no folder" in answer.err


def test_a_limit_that_is_no_size_is_told(project):
    limit(project, "forty")
    answer = project.bench("cache")
    assert answer.code == 2
    assert "cache.max_artifacts = 'forty'" in answer.err


def test_a_suite_keeps_the_limit_and_never_loses_what_it_needs(filled):
    """1 kB holds nothing: both files stay while they are measured, and go after it; the results stay."""
    limit(filled, "1 kB")
    answer = filled.bench("--suite", "nets", "--rounds", "2")
    assert answer.code == 0, answer.err
    assert "more than max_artifacts allows" in answer.err
    assert count(filled) == 0
    with sqlite3.connect(filled.folder / "results/bench.db") as db:
        assert db.execute("SELECT count(DISTINCT case_id) FROM records").fetchone() == (2,)
    assert "nextvit_small" in filled.bench("report").out


def test_without_a_limit_nothing_goes(filled):
    assert filled.bench("--suite", "tiny").code == 0
    assert count(filled) == 2
    limit(filled, "1 kB")
    assert filled.bench("--suite", "tiny", "--fresh").code == 0
    assert count(filled) == 0
