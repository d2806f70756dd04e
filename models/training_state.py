"""A training written down after some step, and taken up again there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models import training_files as files
from models.errors import CheckpointError
from models.learner import Learner
from models.training_identity import check_same
from models.training_plan import Plan
from models.training_request import Epoch, NewClassifier
from models.training_surroundings import tell_changes


@dataclass(slots=True)
class Progress:
    """`step` optimizer steps are done; `loss_sum` is of those of the epoch that is not, in all processes.

    `new_classifier` is what the training began without, where it started from weights for other classes.
    """

    step: int = 0
    loss_sum: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    new_classifier: NewClassifier | None = None

    @property
    def best_top1(self) -> float:
        return max((epoch.top1 for epoch in self.epochs), default=-1.0)


def save_state(folder: Path, plan: Plan, learner: Learner, progress: Progress) -> None:
    """All that the next step depends on. Raises SaveError."""
    tensors = {f"net.{name}": tensor for name, tensor in learner.net.state_dict().items()}
    if learner.ema is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in learner.average.state_dict().items()}
    moments = files.moments(learner.net, learner.optimizer)
    tensors |= {f"optimizer.{name}": tensor for name, tensor in moments.items()}
    facts = {
        **plan.identity(),
        "surroundings": plan.surroundings.to_dict(),
        "step": progress.step,
        "loss_sum": progress.loss_sum,
        "epochs": [epoch.to_dict() for epoch in progress.epochs],
        "scaler": learner.scaler.state_dict(),
        "new_classifier": progress.new_classifier.to_dict() if progress.new_classifier else None,
    }
    files.save(folder / files.STATE, tensors, facts)


def save_weights(path: Path, plan: Plan, learner: Learner, epoch: Epoch) -> None:
    """The weights to deploy, as `models.load_checkpoint` reads them, with what they are. Raises SaveError."""
    facts = {
        **plan.identity(),
        "classes": plan.data.classes,
        "averaged": learner.ema is not None,
        "epoch": epoch.to_dict(),
    }
    files.save(path, learner.average.state_dict(), facts)


def restore(folder: Path, plan: Plan, learner: Learner, *, note: Callable[[str], None]) -> Progress:
    """Put back what `save_state` wrote. Raises CheckpointError for no or another training.

    `note` is told where the training is older than what tells trainings apart, and where it goes on in other
    surroundings.
    """
    path = folder / files.STATE
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: holds no training to go on with ({files.STATE}): leave out --resume"
        )
    saved = files.read(path)
    check_same(path, saved.facts, plan.identity(), note=note)
    if saved.facts["step"] < plan.total:
        tell_changes(path, saved.facts.get("surroundings", {}), plan.surroundings, note=note)
    learner.net.load_state_dict(saved.part("net"))
    if learner.ema is not None:
        learner.average.load_state_dict(saved.part("average"))
    files.restore_moments(learner.net, learner.optimizer, saved.part("optimizer"))
    learner.scaler.load_state_dict(saved.facts["scaler"])
    epochs = [Epoch(**epoch) for epoch in saved.facts["epochs"]]
    classifier = saved.facts.get("new_classifier")
    return Progress(
        saved.facts["step"],
        saved.facts["loss_sum"],
        epochs,
        NewClassifier.from_dict(classifier) if classifier else None,
    )
