"""A training written down after some step, and taken up again there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import training_files as files
from models.errors import CheckpointError
from models.learner import Learner
from models.training_plan import Plan
from models.training_request import Epoch


@dataclass(slots=True)
class Progress:
    """`step` optimizer steps are done; `loss_sum` is of those of the epoch that is not."""

    step: int = 0
    loss_sum: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)

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
        "step": progress.step,
        "loss_sum": progress.loss_sum,
        "epochs": [epoch.to_dict() for epoch in progress.epochs],
        "scaler": learner.scaler.state_dict(),
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


def restore(folder: Path, plan: Plan, learner: Learner) -> Progress:
    """Put back what `save_state` wrote. Raises CheckpointError for no or another training."""
    path = folder / files.STATE
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: holds no training to go on with ({files.STATE}): leave out --resume"
        )
    saved = files.read(path)
    _check_same(path, saved.facts, plan.identity())
    learner.net.load_state_dict(saved.part("net"))
    if learner.ema is not None:
        learner.average.load_state_dict(saved.part("average"))
    files.restore_moments(learner.net, learner.optimizer, saved.part("optimizer"))
    learner.scaler.load_state_dict(saved.facts["scaler"])
    epochs = [Epoch(**epoch) for epoch in saved.facts["epochs"]]
    return Progress(saved.facts["step"], saved.facts["loss_sum"], epochs)


def _check_same(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    fix = "give the values it was begun with, or another folder"
    if saved["model"] != wanted["model"]:
        raise CheckpointError(f"{path}: is a training of {saved['model']}, not of {wanted['model']}: {fix}")
    if saved["teacher"] != wanted["teacher"]:
        before, now = (table["teacher"] or "none" for table in (saved, wanted))
        raise CheckpointError(f"{path}: was begun with teacher={before}, now it is {now}: {fix}")
    for table in ("options", "recipe"):
        for name in {**saved[table], **wanted[table]}:
            before, now = saved[table].get(name), wanted[table].get(name)
            if before != now:
                raise CheckpointError(f"{path}: was begun with {name}={before}, now it is {now}: {fix}")
    if saved["images"] != wanted["images"]:
        raise CheckpointError(
            f"{path}: was begun with other images or classes: give that data, or another folder"
        )
