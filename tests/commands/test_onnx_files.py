"""`--model net.onnx`: a user's own file as a case, and every way in which such a file can be no good."""

from __future__ import annotations

import json
import shutil

import pytest
from onnx import TensorProto

from tests.small_onnx import gpu_kernel, net

SUITES = """
[suites.mine]
description = "Where a file is added"
backends = ["onnxruntime"]

[[suites.mine.matrix]]
models = ["timm/resnet50"]
resolutions = [32]
"""


@pytest.fixture
def mine(project):
    project.add(SUITES)
    return project


def cases(project, *argv: str) -> tuple[int, list[dict]]:
    answer = project.bench("--suite", "mine", "--rounds", "2", "--json", *argv)
    assert answer.out, answer.err
    return answer.code, json.loads(answer.out)["cases"]


def test_files_good_and_bad_in_one_suite(mine):
    """Each that is no good is one failed case with its reason, and the others are measured."""
    fixed, half = net(mine.folder / "fixed.onnx"), net(mine.folder / "half.onnx", kind=TensorProto.FLOAT16)
    (mine.folder / "other").mkdir()
    open_ = net(mine.folder / "other/fixed.onnx", batch="N", seed=1)
    damaged, empty = mine.folder / "damaged.onnx", mine.folder / "empty.onnx"
    damaged.write_bytes(fixed.read_bytes()[:100])
    empty.write_bytes(b"")
    on_gpu = net(mine.folder / "gpu.onnx", change=gpu_kernel)
    named = ["--model", f"{fixed},{open_}", "--model", f"{half},{damaged},{empty},{on_gpu}"]
    code, found = cases(mine, *named, "--batch-size", "1,2", "--backend", "onnxruntime,torch")
    assert code == 1
    assert len(found) == 6 * 2 * 2
    told = {
        (one["model"]["name"], one["backend"], one["batch_size"], one["model"]["weights"]): case["failure"]
        for case in found
        for one in [case["case"]]
    }
    measured = [key for key, failure in told.items() if failure is None]
    assert sorted(key[:3] for key in measured) == [
        ("fixed.onnx", "onnxruntime", 1),
        ("fixed.onnx", "onnxruntime", 1),
        ("fixed.onnx", "onnxruntime", 2),
    ]
    assert len({weights for *_, weights in measured}) == 2

    def said(name: str, backend: str = "onnxruntime", batch: int = 1) -> str:
        return next(f["message"] for key, f in told.items() if f and key[:3] == (name, backend, batch))

    assert "takes batch 1 alone (its input is 1x3x32x32): batch 2 was asked for" in said(
        "fixed.onnx", batch=2
    )
    assert "no exported_program can be made of one" in said("fixed.onnx", "torch")
    assert "does not run in fp16" in said("half.onnx")
    assert "the operator NhwcConv, which ONNX Runtime cannot compute on a CPU" in said("gpu.onnx")
    assert "no ONNX file" in said("damaged.onnx")
    assert "ONNX Runtime refuses it" in said("empty.onnx")
    page = (mine.folder / "results/mine.html").read_text()
    assert "no eager form: the reference is the untouched file" in page
    assert "fixed.onnx weights=sha256:" in page  # two of one name are told apart


@pytest.mark.slow
def test_a_run_is_found_again_and_gated(mine):
    path = net(mine.folder / "net.onnx")
    assert cases(mine, "--model", str(path))[0] == 0
    again = mine.bench("--suite", "mine", "--rounds", "2", "--model", str(path))
    assert "shown from the store" in again.err
    gate = mine.bench("gate", "latest", "--suite", "mine", "--model", str(path), "--rounds", "2")
    assert gate.code == 0, gate.err
    assert "net.onnx" in gate.out
    net(path, seed=5)
    assert mine.bench("--suite", "mine", "--model", str(path), "--dry-run").out.count("to convert") == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "none.onnx", "No such file"),
        (lambda folder: folder / "bench.toml" / "net.onnx", "Not a directory"),
        (lambda folder: folder, "unknown model"),
        (lambda folder: shutil.copy(net(folder / "a.onnx"), folder / "b.ONNX"), "ends in .onnx"),
        (lambda folder: net(folder / "a.onnx", side="S"), "name one with --resolution"),
    ],
)
def test_bad_input_is_told(project, make, said):
    answer = project.bench(
        "--suite", "tiny", "--model", str(make(project.folder)), "--backend", "onnxruntime"
    )
    assert answer.code == 2
    assert said in answer.err
    assert not (project.folder / "results").exists()


def test_a_link_alone_is_refused(project):
    path = net(project.folder / "a.onnx")
    (project.folder / "link.onnx").symlink_to(path)
    answer = project.bench("--suite", "tiny", "--model", str(project.folder / "link.onnx"))
    assert answer.code == 2
    assert f"name the file itself, {path}" in answer.err


def test_a_link_beside_a_file_is_one_failed_case(mine):
    path = net(mine.folder / "a.onnx")
    for folder in ("one", "two"):
        (mine.folder / folder).mkdir()
        (mine.folder / folder / "link.onnx").symlink_to(path)
    (mine.folder / "folder.onnx").mkdir()
    others = [str(mine.folder / name) for name in ("one/link.onnx", "two/link.onnx", "folder.onnx")]
    named = ["--model", ",".join([str(path), *others])]
    code, found = cases(mine, *named)
    assert code == 1
    told = [case["failure"]["message"] if case["failure"] else "" for case in found]
    assert told[0] == ""
    assert [f"name the file itself, {path}" in text for text in told] == [False, True, True, False]
    assert "is no plain file" in told[3]
    assert len({case["case"]["model"]["weights"] for case in found}) == 4
    assert "shown from the store" in mine.bench("--suite", "mine", "--rounds", "2", *named).err
    assert "name the file itself" in mine.bench("--suite", "mine", *named, "--dry-run").out
    records = str(mine.folder / "records.jsonl")
    assert mine.bench("export", "--format", "records", "-o", records).code == 0
    there = mine.bench("import", records, "--store", str(mine.folder / "there.db"))
    assert there.code == 0, there.err
    gate = mine.bench("gate", "latest", "--suite", "mine", "--model", str(path), "--rounds", "2")
    assert gate.code in {0, 4}, gate.err  # two rounds may leave it undecided


def test_a_file_joins_a_suite_of_blocks_on_a_simulated_backend(project):
    path = net(project.folder / "my.onnx")
    answer = project.bench("--suite", "tiny", "--model", f"block/ncb,{path}")
    assert answer.code == 0, answer.err
    assert "my.onnx" in answer.out
    assert "ncb" in answer.out
