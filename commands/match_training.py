"""What networks of one latency learn: every training is an evaluation of the store the moment it ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commands import UsageError
from commands.eval_process import EvaluationError
from converters.pool import cores
from converters.source_graph import digest_of_sources
from models.errors import DataError, ModelError
from models.recipe import Recipe
from models.spec import ModelSpec, digest
from models.training_request import Epoch, TrainingStopped, TrainRequest
from reports.evaluations import Evaluation
from reports.progress import Progress
from reports.store import Store
from runners import environment

# What the numbers of a training hang on besides its network and its recipe: these packages, the sources of
# models/ and converters/ that train, preprocess and run a network (those of commands/ that count its answers
# are not followed), the processor and the number of threads, since sums are rounded in their order.
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
SOURCES = ("models.trainer", "converters.source")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Training:
    """One network with one recipe, which has the seed; equal digests end at equal weights."""

    model: ModelSpec
    recipe: Recipe
    digest: str

    @property
    def label(self) -> str:
        """`hybrid/ccct depth 9, hidden 94, seed 0`."""
        knobs = ", ".join(f"{name} {value}" for name, value in self.model.options)
        return f"{self.model.name} {knobs}, seed {self.recipe.seed}"


def surroundings() -> dict[str, Any]:
    """Of this machine and this program, all that the numbers of a training hang on; loads no torch."""
    return {
        "packages": environment.describe_packages(PACKAGES),
        "sources": digest_of_sources(SOURCES),
        "machine": environment.fingerprint(),
        "threads": [cores(), *(os.environ.get(name, "") for name in THREADS)],
    }


def training_digest(model: ModelSpec, recipe: Recipe, around: Mapping[str, Any]) -> str:
    """sha256 (hex) of everything that decides a training's numbers; `around` are the surroundings."""
    return digest(
        {"model": model.name, "options": dict(model.options), "recipe": recipe.model_dump(), **around}
    )


@dataclass
class Trainings:
    """The trainings of one invocation; `command` is its command line."""

    store: Store
    progress: Progress
    command: str
    deadline_seconds: float

    def learn(self, wanted: Iterable[Training], known: Mapping[str, Evaluation]) -> dict[str, str]:
        """Train what is not `known` by its digest, and say why networks failed, by name.

        One that fails leaves nothing, and the others go on. Raises StoreError, and UsageError where the disk
        takes no weights.
        """
        failures: dict[str, list[str]] = {}
        for training in wanted:
            if training.digest in known:
                self._note(training, known[training.digest], "from the store")
                continue
            try:
                evaluation = self._evaluation(training)
            except (TrainingStopped, EvaluationError, ModelError, DataError) as error:
                failures.setdefault(training.model.name, []).append(f"seed {training.recipe.seed}: {error}")
                continue
            self.store.add_evaluation(evaluation)
            self._note(training, evaluation, f"after epoch {training.recipe.epochs}")
        return {model: "; ".join(messages) for model, messages in failures.items()}

    def _note(self, training: Training, evaluation: Evaluation, where: str) -> None:
        self.progress.note(f"{training.label}: top-1 {100 * evaluation.top1.value:.2f} %, {where}")

    def _evaluation(self, training: Training) -> Evaluation:
        """Of the weights after the last epoch: the best one would be chosen on the images it is told of."""
        from models.trainer import train
        from models.training_files import SaveError

        with tempfile.TemporaryDirectory(prefix="deploybench-match-") as folder:
            asked = TrainRequest(
                *(training.model.name, training.recipe, Path(folder) / "training"),
                options=training.model.options,
            )
            try:
                last = train(asked, _Display(self.progress, training.label)).last
            except SaveError as error:
                raise UsageError(str(error)) from None
            return self._predicted(training, last)

    def _predicted(self, training: Training, weights: Path) -> Evaluation:
        """As `eval` evaluates a checkpoint."""
        from commands.eval_predictions import Running, evaluated, steps_for
        from commands.eval_subject import checkpoint_subject
        from commands.model_options import model_spec
        from models.image_data import open_data

        data = open_data(None, "val")
        chosen = {**dict(training.model.options), "num_classes": len(data.classes)}
        side = str(training.recipe.resolution)
        spec = model_spec(training.model.name, resolution=side, chosen=chosen, checkpoint=weights)
        subject = checkpoint_subject(weights, spec)
        steps, running = steps_for(subject, data), Running(1, "cpu", self.deadline_seconds)
        say = self.progress.note
        evaluation, _ = evaluated(subject, data, steps, running, command=self.command, say=say)
        return replace(evaluation, file=replace(evaluation.file, training=training.digest))


@dataclass
class _Display:
    """The trainer's observer: a bar on a terminal, a line where `what` begins everywhere."""

    progress: Progress
    what: str

    def step(self, done: int, total: int, *, epoch: int, loss: float) -> None:
        where = f"Training {self.what}, epoch {epoch}, loss {loss:.3f}"
        self.progress.training(done, total, where, line=f"training {self.what}")

    def epoch(self, epoch: Epoch, *, epochs: int) -> None:
        """The last one is told when the training ends."""

    def note(self, text: str) -> None:
        self.progress.note(f"{self.what}: {text}")
