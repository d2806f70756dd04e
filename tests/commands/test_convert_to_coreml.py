"""`convert --to coreml`: a package that other tools open, and refusals before anything is made."""

from __future__ import annotations

import importlib.util
import json

import pytest

from converters import mlpackage_convert
from converters.mlpackage_facts import describe
from tests.commands.conftest import Project

NCB = ("convert", "block/ncb", "--resolution", "7x7x64", "--to", "coreml")


@pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs coremltools: pip install '.[coreml]'"
)
def test_a_folder_and_its_facts(project: Project) -> None:
    folder = project.folder / "out"
    done = project.bench(*NCB, "--precision", "fp16", "-o", str(folder))
    assert done.code == 0, done.err
    (package,) = folder.glob("*.mlpackage")
    assert package.name == "block-ncb-7x7x64-fp16.mlpackage"
    assert done.out.splitlines()[-1].startswith(str(package))
    assert describe(package).precision == "fp16"
    facts = json.loads(package.with_suffix(".json").read_text())
    assert (facts["path"], facts["kind"]) == (package.name, "mlpackage")
    assert [step["name"] for step in facts["steps"]] == ["fused", "exported", "mlpackage", "float16"]
    again = project.bench(*NCB, "--precision", "fp16", "-o", str(folder))
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--precision", "int8"],
            "mlpackage cannot be made in int8: it can be made in fp32, fp16, fp16-int8w",
        ),
        (["--precision", "fp16-pal5"], "unknown precision 'fp16-pal5': did you mean fp16-pal"),
        (["--build", "layout=nchw"], "layout=nchw: ane or plain is wanted"),
        (["--build", "input_type=image"], "64 channels, no RGB image"),
        (["--target", "sm89"], "mlpackage is made for no GPU in particular"),
    ],
)
def test_refusals(words: list[str], message: str, project: Project) -> None:
    done = project.bench(*NCB, *words, "-o", str(project.folder / "out"))
    assert done.code == 2
    assert message in done.err


def test_without_coremltools(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlpackage_convert, "installed", lambda: False)
    done = project.bench(*NCB, "--precision", "fp16", "-o", str(project.folder / "out"))
    assert done.code == 2
    assert "coremltools is not installed" in done.err
    assert "pip install '.[coreml]'" in done.err
