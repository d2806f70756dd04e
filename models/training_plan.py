"""What a training sees, and in which order: every step's images as a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from models.errors import DataError, ModelError
from models.image_data import ImageData, open_data
from models.image_loading import Draw, eval_lists
from models.info import check
from models.processes import Processes
from models.recipe import Recipe, RecipeError
from models.spec import ModelSpec, sorted_options
from models.training_identity import Sources, sources
from models.training_request import TrainRequest
from models.training_surroundings import Surroundings, surroundings

ORDER, AUGMENTATION = 2, 3  # what a seed is drawn for, so that no two draws share numbers


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`part` are the images that one process takes at once; `total` and `epoch_steps` are optimizer steps.

    An epoch leaves out the images that fill no batch: others each time, as their order changes.
    """

    spec: ModelSpec
    recipe: Recipe
    data: ImageData
    val_data: ImageData
    part: int
    parts: int
    teacher: str
    sources: Sources
    surroundings: Surroundings

    @property
    def epoch_steps(self) -> int:
        return len(self.data) // self.recipe.batch_size

    @property
    def total(self) -> int:
        return self.recipe.epochs * self.epoch_steps

    def where(self, step: int) -> str:
        """What messages call a step, counted from 1; behind the last one the last."""
        step = min(step, self.total - 1)
        return f"epoch {step // self.epoch_steps + 1}, step {step + 1} of {self.total}"

    def draws(self, start: int, processes: Processes) -> Iterator[list[Draw]]:
        """The parts of every batch from step `start` on that are this process's."""
        seed, size = self.recipe.seed, self.recipe.batch_size
        for step in range(start, self.total):
            epoch, number = divmod(step, self.epoch_steps)
            if number == 0 or step == start:
                order = np.random.default_rng((seed, ORDER, epoch)).permutation(len(self.data))
            for part in range(self.parts):
                first = number * size + (part * processes.count + processes.rank) * self.part
                places = range(first, first + self.part)
                yield [Draw(int(order[place]), (seed, AUGMENTATION, epoch, place)) for place in places]

    def lists(self, start: int, processes: Processes) -> Iterator[list[Draw] | list[int]]:
        """All that this process sees from step `start` on: parts of batches, and `val` after every epoch."""
        draws = self.draws(start, processes)
        for step in range(start, self.total):
            yield from islice(draws, self.parts)
            if (step + 1) % self.epoch_steps == 0:
                yield from self.val_lists(processes)

    def val_lists(self, processes: Processes) -> list[list[int]]:
        """This process's share of `val`, in batches as large as a part of a training batch."""
        return eval_lists(len(self.val_data), self.part, share=(processes.rank, processes.count))

    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on: model, teacher, recipe and what it learns from."""
        return {
            "model": self.spec.name,
            "teacher": self.teacher,
            "options": dict(self.spec.options),
            "recipe": self.recipe.model_dump(),
            **self.sources.to_dict(),
        }


def plan(request: TrainRequest, processes: Processes) -> Plan:
    """Opens the data. Raises DataError, RecipeError, or ModelError for an option that training decides.

    CheckpointError where there is no file of the teacher's.
    """
    recipe = request.recipe
    check_trainable(ModelSpec(request.model, recipe.resolution, request.options))
    data, val_data = open_data(request.data, "train"), open_data(request.data, "val")
    if len(data.classes) < 2:
        raise DataError(
            f"{data.name}: one class, '{data.classes[0]}': there is nothing to tell apart, add another"
        )
    if not 0 < recipe.batch_size <= len(data):
        raise RecipeError(
            f"batch_size={recipe.batch_size}: {data.name} has {len(data)} images to train on: give fewer"
        )
    return Plan(
        _spec(request, len(data.classes)),
        recipe,
        data,
        val_data,
        _part(request, processes),
        request.accumulate,
        request.teacher,
        sources((data, val_data), request.teacher_checkpoint),
        surroundings(request, processes),
    )


def check_trainable(spec: ModelSpec) -> None:
    """Refuse early, before images are looked for, what cannot be built or is a block. Raises ModelError."""
    if spec.is_block:
        raise ModelError(
            f"{spec.name}: a block is no classifier: train a network, such as nextvit_micro of NCB and NTB"
        )
    check(spec)


def _spec(request: TrainRequest, classes: int) -> ModelSpec:
    options = dict(request.options)
    for name, value in {"num_classes": classes, "in_chans": 3}.items():
        if options.pop(name, value) != value:
            raise ModelError(f"{request.model}: {name}: the images have {value}: leave the option out")
    options["num_classes"] = classes
    return ModelSpec(request.model, request.recipe.resolution, sorted_options(options))


def _part(request: TrainRequest, processes: Processes) -> int:
    size, parts = request.recipe.batch_size, request.accumulate * processes.count
    what = f"{processes.count} process{'es' if processes.count > 1 else ''} x {request.accumulate} parts"
    if size % parts or size // parts < 2:
        raise RecipeError(
            f"batch_size={size}: does not fill {what} with 2 images each or more: give a multiple of {parts}"
        )
    if request.recipe.mixes and size // parts % 2:
        raise RecipeError(
            f"batch_size={size}: {what} have {size // parts} images each: must be even to be mixed in pairs"
        )
    return size // parts
