"""The network that is trained, with what a step of its training needs: loss, optimizer, average, schedule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import models
from models.distillation import Teacher, distillation_loss
from models.errors import CheckpointError, ModelError
from models.fine_tuning import load_start
from models.image_data import preprocessing
from models.image_loading import seeded
from models.recipe import Recipe
from models.spec import ModelSpec
from models.stochastic_depth import add_stochastic_depth

if TYPE_CHECKING:
    from models.training_plan import Plan
    from models.training_request import NewClassifier, TrainRequest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INITIAL = 1  # what a seed is drawn for, so that no two draws share numbers


def build_network(spec: ModelSpec, recipe: Recipe) -> nn.Module:
    """A classifier of images, with weights from the recipe's seed and its stochastic depth.

    Raises ModelError for what cannot be built, takes no image of the resolution, or does not classify.
    """
    options: dict[str, Any] = spec.build_options()
    rate, of_timm = recipe.stochastic_depth, spec.name.startswith("timm/")
    if rate and of_timm:
        options["drop_path_rate"] = rate
    with seeded(recipe.seed, INITIAL):
        net = _build(spec.name, options)
    if rate and not of_timm:
        add_stochastic_depth(net, rate)
    _check_classifier(net, spec)
    return net


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        return models.build(name, **options)
    except ModelError as error:
        if "'drop_path_rate'" not in str(error.__cause__):
            raise
        raise ModelError(f"{name}: takes no stochastic depth: set stochastic_depth to 0") from error


def _check_classifier(net: nn.Module, spec: ModelSpec) -> None:
    shape, classes = spec.input_shape(2), spec.option("num_classes")
    try:
        with torch.no_grad():
            answer = net.eval()(torch.zeros(shape))
    except Exception as error:  # whatever a foreign model raises for a shape that it cannot take
        raise ModelError(
            f"{spec.name}: resolution={spec.resolution}: no forward pass for images {shape}: {error}"
        ) from error
    found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if found != (2, classes):
        raise ModelError(
            f"{spec.name}: gives {found} for 2 images and {classes} classes: it is no classifier"
        )


class Learner:
    """A network on its device and what trains it; `average` is its moving average, or the network itself."""

    def __init__(self, plan: Plan, request: TrainRequest, device: torch.device) -> None:
        """Raises ModelError, and CheckpointError for weights to start from or a teacher's that do not fit.

        `new_classifier` says what of the weights to start from was for other classes.
        """
        from timm.utils import ModelEmaV3

        spec, self.recipe, self.device = plan.spec, plan.recipe, device
        self.layout = torch.channels_last if request.channels_last else torch.contiguous_format
        self.steps = preprocessing(spec.name, resolution=spec.resolution, fills_frame=plan.data.fills_frame)
        self.net = build_network(spec, self.recipe)
        self.new_classifier: NewClassifier | None = None
        if request.start is not None and not request.resume:
            self.new_classifier = load_start(self.net, request.start, spec)
        self._place(self.net)
        self.teacher = self._teacher(spec, request) if request.teacher else None
        self.mixup = self._mixup(len(plan.data.classes))
        self.optimizer = self._optimizer()
        self.schedule = self._schedule(plan)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.recipe.precision == "fp16")
        # With a warm-up, as a BatchNorm's variance may be 0.002 and its initial 1 would stay in the average.
        decay = self.recipe.ema_decay
        self.ema = ModelEmaV3(self.net, decay=decay, use_warmup=True) if decay else None

    @property
    def average(self) -> nn.Module:
        """The weights to deploy."""
        module: nn.Module = self.ema.module if self.ema is not None else self.net
        return module

    def autocast(self) -> torch.autocast:
        dtype = DTYPES[self.recipe.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32)

    def placed(self, images: Tensor) -> Tensor:
        """A batch on the device, in the network's layout."""
        return images.to(self.device, non_blocking=True, memory_format=self.layout)

    def _place(self, net: nn.Module) -> None:
        net.to(device=self.device)
        net.to(memory_format=self.layout)

    def loss(self, forward: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The training loss of a batch on the CPU or the device; images are mixed in place."""
        images = self.placed(images)
        targets = labels = labels.to(self.device, non_blocking=True)
        smoothing = self.recipe.label_smoothing
        if self.mixup is not None:
            images, targets = self.mixup(images, labels)
            smoothing = 0.0  # the mixed labels are smooth already
        with self.autocast():
            logits = forward(images)
            loss = functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
            if self.teacher is not None:
                weight = self.recipe.distill_weight
                taught = distillation_loss(
                    logits, self.teacher(images), temperature=self.recipe.distill_temperature
                )
                loss = (1 - weight) * loss + weight * taught
        return loss

    def backward(self, loss: Tensor) -> None:
        scaled: Any = self.scaler.scale(loss)  # torch declares no types for backward
        scaled.backward()

    def update(self, step: int) -> Tensor:
        """One step along the gradients, which are gone afterwards; their norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        limit = self.recipe.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.net, step)
        return norm

    def _mixup(self, classes: int) -> Any:
        from timm.data import Mixup

        if not self.recipe.mixes:
            return None
        return Mixup(
            mixup_alpha=self.recipe.mixup,
            cutmix_alpha=self.recipe.cutmix,
            label_smoothing=self.recipe.label_smoothing,
            num_classes=classes,
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW, as timm and the official code group its parameters.

        Biases, norms and other vectors do not decay, nor what the network names itself, such as a ViT's
        position embedding.
        """
        from timm.optim import param_groups_weight_decay

        named: set[str] = getattr(self.net, "no_weight_decay", set)()
        decay = self.recipe.weight_decay
        groups = param_groups_weight_decay(self.net, decay, no_weight_decay_list=named)
        return torch.optim.AdamW(groups, lr=self.recipe.lr)

    def _schedule(self, plan: Plan) -> Any:
        """timm's cosine with a linear warm-up, by step: `step_update(n)` sets the rate of step n."""
        from timm.scheduler import CosineLRScheduler

        return CosineLRScheduler(
            self.optimizer,
            t_initial=plan.total,
            lr_min=self.recipe.min_lr,
            warmup_t=self.recipe.warmup_epochs * plan.epoch_steps,
            warmup_lr_init=self.recipe.warmup_lr,
            t_in_epochs=False,
        )

    def _teacher(self, spec: ModelSpec, request: TrainRequest) -> Teacher:
        theirs = ModelSpec.of(
            request.teacher, resolution=spec.resolution, num_classes=spec.option("num_classes") or 0
        )
        net = build_network(theirs, self.recipe.model_copy(update={"stochastic_depth": 0.0}))
        if request.teacher_checkpoint is not None:
            _load_teacher(net, request.teacher_checkpoint, theirs)
        own = preprocessing(request.teacher, resolution=spec.resolution)
        teacher = Teacher(net, own=own, students=self.steps)
        self._place(teacher)
        return teacher


def _load_teacher(net: nn.Module, path: Path, spec: ModelSpec) -> None:
    """Raises CheckpointError for weights of another model, or of other classes than the images have."""
    classifier = load_start(net, path, spec)
    if classifier is not None:
        raise CheckpointError(
            f"{path}: the teacher knows {classifier.file_classes} classes, the images have"
            f" {classifier.classes}: fine-tune it on them first (--model {spec.name} --from {path})"
        )
