"""Whatever a user can get wrong: exit code 2, one clear message on stderr, nothing run, no traceback."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WRONG = {
    "no suite": ([], "--suite NAME is missing"),
    "unknown suite": (["--suite", "tinny"], "unknown suite 'tinny': did you mean tiny"),
    "unknown command": (["repotr"], "unknown command 'repotr': did you mean report or"),
    "unknown option": (["--suite", "tiny", "--rouds", "3"], "did you mean --rounds"),
    "abbreviated option": (["--sui", "tiny"], "unknown option --sui tiny: did you mean --suite"),
    "unknown block": (["--suite", "tiny", "--model", "block/ncd"], "did you mean block/ncb"),
    "unknown timm model": (["--suite", "nets", "--model", "timm/resnet5o"], "did you mean timm/resnet50"),
    "unknown backend": (["--suite", "tiny", "--backend", "onnxruntme"], "did you mean onnxruntime"),
    "unknown precision": (["--suite", "tiny", "--precision", "fp23"], "unknown precision 'fp23'"),
    "precision that the file cannot have": (
        ["--suite", "nets", "--backend", "torch", "--precision", "int8"],
        "exported_program cannot be made in int8",
    ),
    "flavour": (
        ["convert", "timm/resnet18", "--to", "onnx", "--precision", "int8", "--flavour", "npu", "-o", "o"],
        "unknown flavour 'npu': onnx has cpu, trt",
    ),
    "precision that the backend cannot run": (
        ["--suite", "nets", "--backend", "torch", "--precision", "bf16"],
        "does not run in bf16",
    ),
    "device": (["--suite", "tiny", "--device", "gpu:x"], "not written like"),
    "device of another backend": (["--suite", "tiny", "--device", "cuda"], "does not run on device 'cuda'"),
    "null backend": (["--suite", "tiny", "--backend", "null"], "runs no model"),
    "resolution text": (["--suite", "tiny", "--resolution", "14x"], "is not written like '14x14x384'"),
    "resolution not there": (["--suite", "tiny", "--resolution", "28"], "it has 14x14x384, 7x7x768"),
    "resolution too fine": (
        ["--suite", "nets", "--resolution", "16", "--model", "nextvit_small"],
        "at least 32",
    ),
    "block shape": (
        ["--suite", "tiny", "--resolution", "13x13x100", "--model", "block/ncb"],
        "multiple of 32",
    ),
    "shape that is no square": (["--suite", "tiny", "--resolution", "14x15x384"], "is not square"),
    "a model that fits nowhere": (
        ["--suite", "tiny", "--model", "block/ncb,timm/resnet50"],
        "has no place for 'timm/resnet50'",
    ),
    "a resolution that fits nowhere": (["--suite", "tiny", "--resolution", "14,15"], "has no place for '15'"),
    "batch size": (["--suite", "tiny", "--batch-size", "0"], "not a whole number of at least 1"),
    "threads": (["--suite", "tiny", "--threads", "two"], "'two' is not a whole number"),
    "empty value": (["--suite", "tiny", "--model", "block/ncb,"], "an empty value"),
    "one round": (["--suite", "tiny", "--rounds", "1"], "at least 2"),
    "seconds": (["--suite", "tiny", "--max-seconds", "nan"], "is not a number of seconds"),
    "seed": (["--suite", "tiny", "--seed", "-1"], "not a whole number of at least 0"),
    "no store yet": (["report"], "run a suite first"),
    "export without format": (["export"], "--format"),
    "convert target": (["convert", "block/ncb", "--to", "onxx", "-o", "out"], "did you mean onnx"),
    "convert to openvino": (["convert", "block/ncb", "--to", "openvino", "-o", "out"], "use --to onnx"),
    "convert shape": (["convert", "block/ncb", "--to", "onnx", "-o", "out"], "in_channels must be given"),
    "convert option": (
        ["convert", "nextvit_small", "--to", "onnx", "-o", "out", "--option", "num_clases=10"],
        "did you mean num_classes",
    ),
    "convert checkpoint": (
        ["convert", "nextvit_small", "--to", "onnx", "-o", "out", "--checkpoint", "gone.pth"],
        "gone.pth: cannot be read",
    ),
}


@pytest.mark.parametrize(("argv", "message"), WRONG.values(), ids=list(WRONG))
def test_wrong_input_is_named_and_nothing_is_run(project, argv, message):
    answer = project.bench(*argv, config=argv[:1] != ["repotr"])
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith("error: ")
    assert answer.out == ""
    assert sorted(p.name for p in project.folder.iterdir()) == ["bench.toml"]


def test_help_of_every_command_says_what_it_does(project, capsys):
    from commands import VERBS

    for verb, (_, description) in VERBS.items():
        with pytest.raises(SystemExit) as ended:
            project.bench(*([] if verb == "run" else [verb]), "--help", config=False)
        assert ended.value.code == 0
        assert description in " ".join(capsys.readouterr().out.split())


def test_unwritable_store(project):
    """Root ignores permissions, so a file stands where the folder should be."""
    (project.folder / "blocked").write_text("")
    answer = project.bench("--suite", "tiny", "--store", str(project.folder / "blocked/bench.db"))
    assert answer.code == 2
    assert "blocked" in answer.err
    assert "Traceback" not in answer.err


def test_store_that_is_no_store(project):
    text = project.folder / "notes.db"
    text.write_text("these are my notes\n" * 100)
    answer = project.bench("--suite", "tiny", "--store", str(text))
    assert answer.code == 2
    assert "notes.db" in answer.err
    assert text.read_text().startswith("these are my notes")


def test_report_that_cannot_be_written_is_refused_before_measuring(project):
    answer = project.bench("--suite", "tiny", "--report", str(project.folder))
    assert answer.code == 2
    assert "is a folder" in answer.err
    assert not (project.folder / "results/bench.db").exists()


def test_the_folder_of_the_store_may_be_read_only(project, tmp_path: Path):
    import os

    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert project.bench("--suite", "tiny", "--store", str(folder / "bench.db")).code == 2


def test_an_error_of_ours_is_no_failed_case_and_no_regression():
    """Exit code 70, with the traceback, where Python itself would end with 1."""
    broken = "import bench, sys\nbench.main = lambda: {}['a bug']\nsys.exit(bench.guarded())\n"
    done = subprocess.run([sys.executable, "-c", broken], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 70
    assert "KeyError: 'a bug'" in done.stderr
