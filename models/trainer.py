"""The training loop: one process or several, resumable to the same numbers after a kill at any point.

Nothing is drawn from a generator that runs along: order, augmentation, mixing and dropped branches are
functions of the seed and of the step, and a checkpoint holds the rest. With as many processes, threads and
parts of a batch, and deterministic kernels as on a CPU, a resumed training ends at the weights of an unbroken
one, bit for bit.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from models import training_files as files
from models.errors import CheckpointError
from models.image_data import Unreadable, eval_transform
from models.image_loading import Batch, eval_batches, seeded, train_batches
from models.learner import Learner, train_transform
from models.processes import Processes, joined
from models.training_log import TrainingLog
from models.training_plan import plan
from models.training_request import Epoch, Observer, TrainingStopped, TrainRequest, TrainResult
from models.training_state import Progress, restore, save_state, save_weights

STEP = 4  # what a seed is drawn for; `models.learner` and `models.training_plan` have others
COMPILERS = ("torch._dynamo", "torch._inductor")
LOGGED = 10  # steps between two points of a curve


def train(request: TrainRequest, observer: Observer) -> TrainResult:
    """Train as asked, from the beginning or from where `request.output` is.

    Raises ModelError, DataError or SaveError for what the user can correct, and TrainingStopped where the
    loss is not finite any more or the device's memory does not suffice.
    """
    with joined(request.device) as processes:
        trainer = Trainer(request, processes, observer)
        try:
            return trainer.run()
        except torch.OutOfMemoryError as error:
            where = trainer.plan.where(trainer.progress.step)
            raise TrainingStopped(f"out of memory in {where}: take the batch in more parts") from error
        except Exception as error:
            if not (request.compiled and type(error).__module__.startswith(COMPILERS)):
                raise
            why = str(error).splitlines()[0]
            raise TrainingStopped(
                f"torch.compile: {type(error).__name__}: {why}: train without it"
            ) from error


class Trainer:
    """One training between two checkpoints: what it sees, what it trains, how far it is."""

    def __init__(self, request: TrainRequest, processes: Processes, observer: Observer) -> None:
        self.request, self.processes, self.observer = request, processes, observer
        self.plan = plan(request, processes)
        self.unreadable = {data.split: Unreadable(data) for data in (self.plan.data, self.plan.val_data)}
        self.learner = Learner(self.plan, request, processes.device)
        self.progress = self._progress()
        # Where processes meet: none writes before all have looked for a training.
        self.forward = self._forward()
        self.log: TrainingLog | None = None  # the first process has one
        self.pending: tuple[int, float, Tensor] | None = None  # a step, its rate, its loss and norm

    def run(self) -> TrainResult:
        """Every step that is left, an evaluation and a checkpoint after every epoch."""
        if self.progress.step < self.plan.total:
            batches = self._batches()
            first = next(batches)
            self._note_unreadable(first, "train")  # before anything is written
            self._open()
            try:
                self._train(chain([first], batches))
            finally:
                if self.log is not None:
                    self.log.close()
        return self._result()

    def _train(self, batches: Iterator[Batch]) -> None:
        progress, every = self.progress, self.request.save_every
        while progress.step < self.plan.total:
            self._watch(*self._optimize(batches))
            progress.step += 1
            if progress.step % self.plan.epoch_steps == 0:
                self._end_epoch()
            elif every and progress.step % every == 0:
                self._settle()
                self._save()

    def _optimize(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """One step of the optimizer on one batch in its parts: the mean loss and the gradients' norm."""
        learner, parts = self.learner, self.plan.parts
        learner.net.train()
        learner.schedule.step_update(self.progress.step)
        total = torch.zeros((), device=self.processes.device)
        for part in range(parts):
            batch = next(batches)
            self._note_unreadable(batch, "train")
            with self._seeded(part), self._exchange(last=part == parts - 1):
                loss = learner.loss(self.forward, batch.images, batch.labels) / parts
                learner.backward(loss)
            total += loss.detach()
        return total, learner.update(self.progress.step)

    def _seeded(self, part: int) -> AbstractContextManager[None]:
        """What a step draws (mixing, dropped branches), as a function of step, part and process."""
        seed = (self.plan.recipe.seed, STEP, self.progress.step, part, self.processes.rank)
        if self.processes.device.type == "cuda":
            torch.cuda.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return seeded(*seed)

    def _exchange(self, *, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step: after the last part of its batch."""
        if last or not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        quiet: AbstractContextManager[None] = self.forward.no_sync()
        return quiet

    def _watch(self, loss: Tensor, norm: Tensor) -> None:
        """Looks at the step before this one, so that the device always has work while the program looks.

        With fp16 a norm that is not finite is a step that the scaler leaves out, as it should.
        """
        self._settle()
        norm = torch.zeros_like(norm) if self.learner.scaler.is_enabled() else norm
        rate = self.learner.optimizer.param_groups[0]["lr"]
        self.pending = self.progress.step, rate, torch.stack((loss, norm))

    def _settle(self) -> None:
        """What is known of the last step. Raises TrainingStopped where it is not finite."""
        if self.pending is None:
            return
        (step, rate, values), self.pending = self.pending, None
        loss, norm = values.tolist()
        if not np.isfinite([loss, norm]).all():
            what = "norm of the gradients" if np.isfinite(loss) else "loss"
            raise TrainingStopped(
                f"the {what} is not finite in {self.plan.where(step)}: lower lr or clip_norm, or raise"
                f" warmup_epochs; the checkpoint before it is {self.request.output / files.STATE}"
            )
        self.progress.loss_sum += loss
        if self.log is not None:
            self.observer.step(step + 1, self.plan.total, epoch=step // self.plan.epoch_steps + 1, loss=loss)
            if (step + 1) % LOGGED == 0:
                self.log.write(step + 1, {"train/loss": loss, "train/grad_norm": norm, "train/lr": rate})

    def _end_epoch(self) -> None:
        self._settle()
        progress, steps = self.progress, self.plan.epoch_steps
        seconds = time.monotonic() - self.began
        images = (progress.step - self.began_step) * self.plan.recipe.batch_size
        sums = torch.tensor([progress.loss_sum / steps, 1.0], device=self.processes.device)
        train_loss, processes = self.processes.summed(sums).tolist()
        val_loss, top1 = self._evaluate()
        epoch = Epoch(
            epoch=progress.step // steps,
            step=progress.step,
            train_loss=train_loss / processes,
            val_loss=val_loss,
            top1=top1,
            images_per_second=images / seconds,
            peak_memory_bytes=_peak_memory_bytes(self.processes.device),
            best=top1 > progress.best_top1,
        )
        progress.epochs.append(epoch)
        progress.loss_sum = 0.0
        self._save(epoch)
        self._begin()

    @torch.no_grad()
    def _evaluate(self) -> tuple[float, float]:
        """Mean cross-entropy and top-1 accuracy of the weights to deploy, on what can be read of `val`."""
        net = self.learner.average.eval()
        self.processes.share_buffers(net)
        sums = torch.zeros(3, device=self.processes.device)  # losses, right answers, images
        for batch in self._val_batches():
            self._note_unreadable(batch, "val")
            if len(batch.labels):
                images, labels = self.learner.placed(batch.images), batch.labels.to(self.processes.device)
                with self.learner.autocast():
                    logits = net(images).float()
                loss = functional.cross_entropy(logits, labels, reduction="sum")
                right = (logits.argmax(dim=1) == labels).sum()
                sums += torch.stack((loss, right, torch.tensor(len(labels), device=sums.device)))
        losses, right, images = self.processes.summed(sums).tolist()
        return losses / images, right / images

    def _batches(self) -> Iterator[Batch]:
        steps, recipe = self.learner.steps, self.plan.recipe
        draws = self.plan.draws(self.progress.step, self.processes)
        transform = train_transform(steps, recipe)
        return train_batches(self.plan.data, transform, draws, workers=self.request.workers, pin=self._pins)

    def _val_batches(self) -> Iterator[Batch]:
        return eval_batches(
            self.plan.val_data,
            eval_transform(self.learner.steps),
            batch_size=self.plan.part,
            workers=self.request.workers,
            pin=self._pins,
            share=(self.processes.rank, self.processes.count),
        )

    @property
    def _pins(self) -> bool:
        return self.processes.device.type == "cuda"

    def _note_unreadable(self, batch: Batch, split: str) -> None:
        for index, reason in batch.unreadable:
            if self.unreadable[split].add(index, reason):
                self.observer.note(f"left out, as it cannot be read: {reason}")

    def _progress(self) -> Progress:
        folder = self.request.output
        if self.request.resume:
            return restore(folder, self.plan, self.learner)
        if (folder / files.STATE).exists():
            raise CheckpointError(
                f"{folder}: holds a training: --resume goes on with it, or name another folder"
            )
        return Progress()

    def _forward(self) -> nn.Module:
        """The network as it is called: compiled, and exchanging gradients, where that is asked for."""
        net = self.learner.net
        if self.request.compiled:
            net.compile()
        if self.processes.count == 1:
            return net
        gpus = [self.processes.device] if self.processes.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=gpus)

    def _open(self) -> None:
        """The folder, the log, and a first checkpoint: that they can be written is known before any work."""
        if self.processes.first:
            self.request.output.mkdir(parents=True, exist_ok=True)
            self.log = TrainingLog(self.request.output, start_step=self.progress.step)
            if not self.request.resume:
                save_state(self.request.output, self.plan, self.learner, self.progress)
        self._begin()

    def _begin(self) -> None:
        self.began, self.began_step = time.monotonic(), self.progress.step

    def _save(self, epoch: Epoch | None = None) -> None:
        """The state last: until it is there, resuming goes back to the one before, and the rest is redone."""
        if self.log is None:
            return
        folder, plan, learner = self.request.output, self.plan, self.learner
        if epoch is not None:
            self.log.epoch(epoch)
            if epoch.best:
                save_weights(folder / files.BEST, plan, learner, epoch)
            save_weights(folder / files.LAST, plan, learner, epoch)
        save_state(folder, plan, learner, self.progress)
        if epoch is not None:
            self.observer.epoch(epoch, epochs=plan.recipe.epochs)

    def _result(self) -> TrainResult:
        found = tuple(text for unreadable in self.unreadable.values() for text in unreadable.found.values())
        folder = self.request.output
        return TrainResult(tuple(self.progress.epochs), folder / files.BEST, folder / files.LAST, found)


def _peak_memory_bytes(device: torch.device) -> int:
    """The most that this process held: on the GPU, or in memory where it works on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
