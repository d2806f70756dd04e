"""`bench.py convert --to trt`: a real engine on a machine without a GPU, and what is refused."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from converters import tensorrt_package
from tests.commands.conftest import Project

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
BLOCK = (
    "convert",
    "block/bottleneck",
    "--to",
    "trt",
    "--resolution",
    "7x7x32",
    "--build",
    "package=tensorrt_rtx",
)


@needs_rtx
def test_engine_and_its_facts(project: Project) -> None:
    out = project.folder / "out"
    answer = project.bench(*BLOCK, "--target", "sm89", "-o", str(out))
    assert answer.code == 0
    assert "engine       not compared" in answer.out
    engine, facts = sorted(out.iterdir())
    assert engine.name.startswith("block-bottleneck-7x7x32-fp32-sm89-")
    assert (engine.suffix, facts.suffix) == (".engine", ".json")
    told = json.loads(facts.read_text())
    assert told["path"] == engine.name
    assert told["facts"]["target"] == "sm89"
    assert told["build"] == {"package": "tensorrt_rtx"}
    assert told["steps"][-1]["parity"] is None


@needs_rtx
def test_int8_needs_no_flavour_to_be_named(project: Project) -> None:
    answer = project.bench(
        *BLOCK, "--target", "sm89", "--precision", "int8", "--json", "-o", str(project.folder)
    )
    assert answer.code == 0
    assert json.loads(answer.out)["facts"]["macs_int8_percent"] == 100.0


@needs_rtx
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--target", "sm90"], 1, "cannot build for sm90: it can for sm75"),
        (["--target", "89"], 2, "target '89' is not written like sm89"),
        (["--target", "sm89", "--build", "level=3"], 2, "no option 'level'"),
        (["--target", "sm89", "--build", "optimization_level=9"], 2, "a whole number from 0 to 5"),
        (["--target", "sm89", "--build", "max_batch"], 2, "not written like NAME=VALUE"),
        (
            ["--target", "sm89", "--build", "max_batch=2", "--batch-size", "4"],
            2,
            "outside the engine's range",
        ),
    ],
    ids=str,
)
def test_refusals(words: list[str], code: int, message: str, project: Project) -> None:
    answer = project.bench(*BLOCK, *words, "-o", str(project.folder / "out"))
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert not (project.folder / "out").exists()


def test_without_the_package(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_package, "installed", lambda: ())
    words = [word for word in BLOCK if word not in ("--build", "package=tensorrt_rtx")]
    answer = project.bench(*words, "--target", "sm89", "-o", str(project.folder / "out"))
    assert answer.code == 2
    assert "pip install '.[trt]'" in answer.err
