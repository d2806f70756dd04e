"""Weights for the models of a suite: `--checkpoint NAME=FILE`, or `checkpoints` of a matrix in bench.toml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError
from commands.config import Matrix, Suite
from commands.model_questions import asked
from commands.onnx_files import is_file_name
from converters.files import sha256_of
from models.errors import UnknownModelError
from models.info import check_name
from models.spec import ModelSpec
from models.tables import suggest

if TYPE_CHECKING:
    from commands.plan import Overrides

OPTION = "--checkpoint"
_HOLDS_ITS_OWN = f"an ONNX file holds its own weights: leave {OPTION} out"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights; `path` is absolute."""

    path: Path
    sha256: str

    @property
    def weights(self) -> str:
        return f"sha256:{self.sha256}"


class Checkpoints:
    """Which weights the models of a suite have. A file is read once, when its model is asked for.

    What the command line says of a model holds in place of what bench.toml says. Raises UsageError for a
    `--checkpoint` of no model that is asked for.
    """

    def __init__(self, suite: Suite, overrides: Overrides) -> None:
        listed = [name for matrix in suite.matrix for name in matrix.models]
        names = overrides.models or ([] if overrides.files else listed)
        self._given = _by_model(overrides.checkpoints, tuple(dict.fromkeys(names)), overrides)
        self._opened: dict[tuple[str, Path], Checkpoint] = {}

    def applied(self, specs: Iterable[ModelSpec], matrix: Matrix) -> list[ModelSpec]:
        """The specs, those with weights named by their sha256. Raises UsageError for a file that is none."""
        return [self._applied(spec, {**matrix.checkpoints, **self._given}, matrix) for spec in specs]

    def _applied(self, spec: ModelSpec, paths: Mapping[str, str], matrix: Matrix) -> ModelSpec:
        if spec.name not in paths:
            return spec
        if matrix.parts:
            raise UsageError(
                f"checkpoint of {spec.name}: the parts of a network are measured with random weights alone:"
                " leave it out"
            )
        return replace(spec, weights=self._open(spec.name, Path(paths[spec.name])).weights)

    def _open(self, name: str, path: Path) -> Checkpoint:
        if (name, path) not in self._opened:
            self._opened[name, path] = read_checkpoint(name, path.expanduser().absolute())
        return self._opened[name, path]

    @property
    def files(self) -> dict[str, Path]:
        """By the weights that the specs have."""
        return {one.weights: one.path for one in self._opened.values()}

    def check(self, specs: Iterable[ModelSpec]) -> None:
        """Loads each as a conversion will, in a process of its own. Raises UsageError for what does not fit.

        `specs` are all that are planned.
        """
        opened = {name for name, _ in self._opened}
        unused = [name for name in self._given if name not in opened]
        if unused:
            raise UsageError(f"{OPTION} {unused[0]}={self._given[unused[0]]}: nothing in the suite has it")
        files = self.files
        with_weights = [spec for spec in specs if spec.weights in files]
        builds = {(s.name, s.weights, *sorted(s.build_options().items())): s for s in with_weights}
        questions = [
            {"model": spec.to_dict(), "checkpoint": str(files[spec.weights])} for spec in builds.values()
        ]
        answers = asked("models.checkpoint_check", questions) if questions else []
        for spec, problem in zip(builds.values(), answers, strict=True):
            if problem:
                raise UsageError(f"checkpoint of {spec.name}: {problem}")


def read_checkpoint(name: str, path: Path) -> Checkpoint:
    """The file and its sha256; `name` is the model that it is for. Raises UsageError for what is no file."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise UsageError(f"checkpoint of {name}: {path}: {what}")
    try:
        return Checkpoint(path, sha256_of(path))
    except OSError as error:
        raise UsageError(f"checkpoint of {name}: {path}: cannot be read: {error.strerror}") from None


def _by_model(texts: Iterable[str], names: tuple[str, ...], overrides: Overrides) -> dict[str, str]:
    """The paths of the command line by model; `names` are the models that are asked for."""
    found: dict[str, str] = {}
    for text in texts:
        if not names:
            raise UsageError(f"{OPTION} {text}: {_HOLDS_ITS_OWN}")
        name, path = split(text, names, others=len(overrides.files))
        if name not in names:
            raise UsageError(f"{OPTION} {text}: {name} is not measured: {suggest(name, names)}")
        if name in found:
            raise UsageError(f"{OPTION} {text}: {name} has {found[name]} already: one for each model")
        found[name] = path
    return found


def split(text: str, names: tuple[str, ...], *, others: int) -> tuple[str, str]:
    """(model, path) of `NAME=FILE`, or of a file alone where exactly one model is asked for.

    `others` are the ONNX files beside `names`. Raises UsageError for another form and for no model's name.
    """
    name, equals, path = text.partition("=")
    if not equals or (Path(text).expanduser().is_file() and not _is_model(name)):
        if len(names) + others == 1:
            return names[0], text
        raise UsageError(
            f"{OPTION} {text}: of which of {len(names) + others} models? Write {OPTION} NAME={text}"
        )
    if not name or not path:
        raise UsageError(f"{OPTION} {text}: is not written like NAME=FILE")
    if is_file_name(name):
        raise UsageError(f"{OPTION} {text}: {_HOLDS_ITS_OWN}")
    try:
        check_name(name)
    except UnknownModelError as error:
        raise UsageError(f"{OPTION} {text}: {error}") from None
    return name, path


def _is_model(name: str) -> bool:
    try:
        check_name(name)
    except UnknownModelError:
        return False
    return True
