"""A project folder of its own for every test: bench.toml, store, artifacts and reports in a temporary one."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench import main

SIMULATED = """
schema = 1

[timing]
min_rounds = 3
max_rounds = 3
round_seconds = 0.05
warmup_seconds = 0.0
target = 0.5
max_seconds = 60
deadline_seconds = 30

[suites.tiny]
description = "Four simulated cases"
backends = ["simulated"]

[[suites.tiny.matrix]]
models = ["block/ncb", "block/bottleneck"]
shapes = ["14x14x384", "7x7x768"]

[suites.nets]
description = "Two networks"

[[suites.nets.matrix]]
models = ["nextvit_small", "timm/resnet50"]
resolutions = [224]
"""


@dataclass(frozen=True)
class Answer:
    """What a command line printed and returned."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Project:
    """A folder with a bench.toml, and the command line run on it in this process."""

    folder: Path
    call: Callable[[Sequence[str]], Answer]

    @property
    def config(self) -> Path:
        return self.folder / "bench.toml"

    def bench(self, *argv: str, config: bool = True) -> Answer:
        return self.call([*argv, *(["--config", str(self.config)] if config else [])])

    def add(self, toml: str) -> Project:
        """Append to bench.toml."""
        self.config.write_text(self.config.read_text() + toml)
        return self

    def planned(self, suite: str, *argv: str) -> list[dict[str, Any]]:
        """The cases that a dry run names."""
        answer = self.bench("--suite", suite, "--dry-run", "--json", *argv)
        assert answer.code == 0, answer.err
        cases: list[dict[str, Any]] = json.loads(answer.out)["cases"]
        return cases


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "bench.toml").write_text(SIMULATED)
    monkeypatch.setenv("DEPLOYBENCH_LOCKS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")

    def call(argv: Sequence[str]) -> Answer:
        capsys.readouterr()
        code = main(argv)
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return Project(tmp_path, call)


@pytest.fixture(scope="session")
def stored() -> ModuleType:
    """The builders of stored_runs.py: test folders are no packages."""
    path = Path(__file__).with_name("stored_runs.py")
    spec = importlib.util.spec_from_file_location("commands_stored_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled images, squares of one colour each."""
    from tests.commands.coloured_squares import make_images

    return make_images(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def converted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of a small network, with the record of its conversion beside it."""
    from tests.commands.coloured_squares import converted_network

    return converted_network(tmp_path_factory.mktemp("converted"), "fp32")


@pytest.fixture
def evaluate(project: Project, images: Path) -> Callable[..., Answer]:
    """`eval` with these arguments, on the coloured squares unless told otherwise."""

    def run(*argv: object, data: object = images) -> Answer:
        return project.bench("eval", *map(str, argv), "--data", str(data))

    return run
