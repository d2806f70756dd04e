"""`gate` of a run with weights of files: where it finds them, and what it says where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from commands.plan import request_of
from converters.cache import ArtifactCache
from converters.files import sha256_of
from converters.keys import cache_key
from models import ModelSpec, instantiate
from models.spec import Case
from reports.store import Store
from tests.commands.stacked_convolutions import CHANNELS, SIDE, put

SUITE = """
[suites.own]
description = "One block with weights of a file"

[[suites.own.matrix]]
models = ["block/ncb"]
shapes = ["8x8x384"]
checkpoints = { "block/ncb" = "CHECKPOINT" }
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights of the block that is measured."""
    path = tmp_path_factory.mktemp("weights") / "ncb.safetensors"
    save_file(instantiate(_spec("random:3")).state_dict(), path)
    return path


def _spec(weights: str) -> ModelSpec:
    return ModelSpec.of("block/ncb", resolution=SIDE, in_channels=CHANNELS, weights=weights)


def _case(path: Path) -> Case:
    return Case(_spec(f"sha256:{sha256_of(path)}"), "onnxruntime")


def _measured(project, stored, case: Case, *, made: bool = False) -> str:
    """The id of a run whose file is in the cache; with `made` the present code's is there too."""
    cache = ArtifactCache(project.folder / "artifacts")
    artifact = put(cache, 32 * "b", case, 2)
    if made:
        put(cache, cache_key(request_of(case)), case, 2)
    path = project.folder / "results/bench.db"
    run_id = stored.add_run(path, {case: 2e6}, suite="own")
    with Store(path) as store:
        store.set_artifact(run_id, case.id, artifact)
    return str(run_id)


def test_what_is_made_already_needs_no_checkpoint(project, stored, checkpoint):
    run_id = _measured(project, stored, _case(checkpoint), made=True)
    answer = project.bench("gate", run_id)
    assert answer.code == 0, answer.err
    assert "The very same file (1)" in answer.out


def test_a_checkpoint_that_is_missing_is_named_with_its_case(project, stored, checkpoint):
    """Before anything is converted or written; a file of bench.toml with other weights does not help."""
    other = project.folder / "other.safetensors"
    other.write_bytes(b"other")
    project.add(SUITE.replace("CHECKPOINT", str(other)))
    case = _case(checkpoint)
    run_id = _measured(project, stored, case)
    before = stored.digest_of(project.folder / "results")
    answer = project.bench("gate", run_id)
    assert answer.code == 2
    assert f"{case.label}: checkpoint sha256 {sha256_of(checkpoint)[:12]}" in answer.err
    assert "Give --checkpoint block/ncb=FILE" in answer.err
    assert "--model" not in answer.err
    assert answer.out == ""
    assert stored.digest_of(project.folder / "results") == before


def test_an_onnx_file_that_is_missing_is_named_by_the_command_of_base(project, stored):
    case = Case(ModelSpec.of("my.onnx", resolution=SIDE, weights=f"sha256:{64 * 'a'}"), "onnxruntime")
    answer = project.bench("gate", _measured(project, stored, case))
    assert answer.code == 2
    assert f"{case.label}: ONNX file sha256 {12 * 'a'}" in answer.err
    assert "Name ONNX files as run 1 did, by `python bench.py --suite own`" in answer.err
    assert "--checkpoint" not in answer.err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("block/ncb=OTHER", "and not a file of run 1: block/ncb was measured with sha256 "),
        ("block/lsa=OTHER", "and not a file of run 1: it measured no checkpoint of block/lsa"),
        ("block/ncb=none.pth", "checkpoint of block/ncb: "),
        ("block/nbc=none.pth", "unknown model 'block/nbc'"),
    ],
)
def test_a_checkpoint_of_no_case_is_told(project, stored, checkpoint, given, says):
    other = project.folder / "other.safetensors"
    other.write_bytes(b"other")
    run_id = _measured(project, stored, _case(checkpoint))
    answer = project.bench("gate", run_id, "--checkpoint", given.replace("OTHER", str(other)))
    assert answer.code == 2
    assert says in answer.err
    assert answer.out == ""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["option", "option alone", "bench.toml"])
def test_the_checkpoint_is_converted_again(project, stored, checkpoint, place):
    """The suite of BASE, as bench.toml has it, is asked only for what the command line leaves open."""
    given = {
        "option": ("--checkpoint", f"block/ncb={checkpoint}"),
        "option alone": ("--checkpoint", str(checkpoint)),
        "bench.toml": (),
    }[place]
    if place == "bench.toml":
        project.add(SUITE.replace("CHECKPOINT", str(checkpoint)))
    case = _case(checkpoint)
    run_id = _measured(project, stored, case)
    answer = project.bench("gate", run_id, *given, "--rounds", "2", "--max-regression", "50%", "--json")
    assert answer.code in (0, 1, 4), answer.err  # which of the two networks is faster is not asked
    (row,) = json.loads(answer.out)["cases"]
    assert row["label"] == case.label
    assert ArtifactCache(project.folder / "artifacts").find(cache_key(request_of(case))) is not None
