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
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from models import training_files as files
from models.augmentation import train_transform
from models.errors import CheckpointError
from models.image_data import eval_transform
from models.image_loading import Batch, EvalSamples, Loading, Samples, TrainSamples, batches, seeded
from models.learner import Learner
from models.processes import Processes, joined
from models.training_log import TrainingLog
from models.training_plan import plan
from models.training_request import Epoch, Observer, TrainRequest, TrainResult
from models.training_state import Progress, restore, save_state, save_weights
from models.training_stops import kept, stops
from models.training_watch import Watch
from models.unreadable_images import UnreadableImages

STEP = 4  # what a seed is drawn for; `models.learner` and `models.training_plan` have others
LOGGED = 10  # steps between two points of a curve


def train(request: TrainRequest, observer: Observer) -> TrainResult:
    """Train as asked, from the beginning or from where `request.output` is.

    Raises ModelError, DataError or SaveError for what the user can correct, and TrainingStopped where the
    loss or the gradients stay not finite, or where memory or a process that loads images is lost.
    """
    with joined(request.device) as processes:
        trainer = Trainer(request, processes, observer)
        with stops(trainer.where, request.output, compiled=request.compiled):
            return trainer.run()


class Trainer:
    """One training between two checkpoints: what it sees, what it trains, how far it is."""

    def __init__(self, request: TrainRequest, processes: Processes, observer: Observer) -> None:
        self.request, self.processes, self.observer = request, processes, observer
        self.plan = plan(request, processes)
        self.unreadable = UnreadableImages((self.plan.data, self.plan.val_data), processes, self._note)
        self.learner = Learner(self.plan, request, processes.device)
        self.progress = self._progress()
        self.watch = Watch(
            self.plan.where, lambda: kept(request.output), scaled=self.learner.scaler.is_enabled()
        )
        # Where processes meet: none writes before all have looked for a training.
        self.forward = self._forward()
        self.log: TrainingLog | None = None  # the first process has one

    def where(self) -> str:
        """What messages call the step that is under way."""
        return self.plan.where(self.progress.step)

    def run(self) -> TrainResult:
        """Every step that is left, an evaluation and a checkpoint after every epoch."""
        if self.progress.step < self.plan.total:
            with closing(self._batches()) as loaded:
                first = next(loaded)
                self.unreadable.add(first, "train")  # before anything is written
                self.unreadable.gather()
                self._open()
                try:
                    self._train(chain([first], loaded))
                finally:
                    if self.log is not None:
                        self.log.close()
        return self._result()

    def _train(self, loaded: Iterator[Batch]) -> None:
        progress, every = self.progress, self.request.save_every
        while progress.step < self.plan.total:
            self._look(*self._optimize(loaded))
            progress.step += 1
            if progress.step % self.plan.epoch_steps == 0:
                self._end_epoch(loaded)
            elif every and progress.step % every == 0:
                self._settle()
                self._save()

    def _optimize(self, loaded: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """One step of the optimizer on one batch in its parts: the mean loss and the gradients' norm.

        Both are of the whole batch, so that every process knows the same and stops at the same step.
        """
        learner, parts = self.learner, self.plan.parts
        learner.net.train()
        learner.schedule.step_update(self.progress.step)
        total = torch.zeros((), device=self.processes.device)
        for part in range(parts):
            batch = next(loaded)
            self.unreadable.add(batch, "train")
            with self._seeded(part), self._exchange(last=part == parts - 1):
                loss = learner.loss(self.forward, batch.images, batch.labels) / parts
                learner.backward(loss)
            total += loss.detach()
        return self.processes.mean(total), learner.update(self.progress.step)

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

    def _look(self, loss: Tensor, norm: Tensor) -> None:
        """At the step before this one, while the device works on this one."""
        self._settle()
        rate = self.learner.optimizer.param_groups[0]["lr"]
        self.watch.begin(self.progress.step, rate=rate, loss=loss, norm=norm)

    def _settle(self) -> None:
        """What is known of the last step. Raises TrainingStopped where there is no sense in going on."""
        seen = self.watch.settle()
        if seen is None:
            return
        done, epoch = seen.step + 1, seen.step // self.plan.epoch_steps + 1
        self.progress.loss_sum += seen.loss
        if self.log is not None:
            self.observer.step(done, self.plan.total, epoch=epoch, loss=seen.loss)
            if done % LOGGED == 0:
                curves = {"train/loss": seen.loss, "train/grad_norm": seen.norm, "train/lr": seen.rate}
                self.log.write(done, curves)

    def _end_epoch(self, loaded: Iterator[Batch]) -> None:
        self._settle()
        progress, steps = self.progress, self.plan.epoch_steps
        seconds = time.monotonic() - self.began
        images = (progress.step - self.began_step) * self.plan.recipe.batch_size
        val_loss, top1 = self._evaluate(loaded)
        epoch = Epoch(
            epoch=progress.step // steps,
            step=progress.step,
            train_loss=progress.loss_sum / steps,
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
    def _evaluate(self, loaded: Iterator[Batch]) -> tuple[float, float]:
        """Mean cross-entropy and top-1 accuracy of the weights to deploy, on what can be read of `val`."""
        net = self.learner.average.eval()
        self.processes.share_buffers(net)
        sums = torch.zeros(3, device=self.processes.device)  # losses, right answers, images
        for batch in islice(loaded, len(self.plan.val_lists(self.processes))):
            self.unreadable.add(batch, "val")
            if len(batch.labels):
                images, labels = self.learner.placed(batch.images), batch.labels.to(self.processes.device)
                with self.learner.autocast():
                    logits = net(images).float()
                loss = functional.cross_entropy(logits, labels, reduction="sum")
                right = (logits.argmax(dim=1) == labels).sum()
                sums += torch.stack((loss, right, torch.tensor(len(labels), device=sums.device)))
        losses, right, images = self.processes.summed(sums).tolist()
        return losses / images, right / images

    def _batches(self) -> Generator[Batch]:
        """All that is left to see, `val` after every epoch among it: one set of workers loads everything."""
        plan, steps = self.plan, self.learner.steps
        samples = Samples(
            TrainSamples(plan.data, train_transform(steps, plan.recipe)),
            EvalSamples(plan.val_data, eval_transform(steps)),
        )
        pin = self.processes.device.type == "cuda"
        loading = Loading(plan.part, steps.resolution, self.request.workers, pin)
        return batches(samples, plan.lists(self.progress.step, self.processes), loading)

    def _note(self, text: str) -> None:
        if self.processes.first:
            self.observer.note(text)

    def _progress(self) -> Progress:
        folder = self.request.output
        if self.request.resume:
            return restore(folder, self.plan, self.learner, note=self._note)
        if (folder / files.STATE).exists():
            raise CheckpointError(
                f"{folder}: holds a training: --resume goes on with it, or name another folder"
            )
        return Progress(new_classifier=self.learner.new_classifier)

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
            if self.learner.new_classifier is not None:
                self._note(f"{self.request.start}: begun with {self.learner.new_classifier}")
            if not self.request.resume:
                save_state(self.request.output, self.plan, self.learner, self.progress)
        self._begin()

    def _begin(self) -> None:
        self.began, self.began_step = time.monotonic(), self.progress.step

    def _save(self, epoch: Epoch | None = None) -> None:
        """The state last: until it is there, resuming goes back to the one before, and the rest is redone."""
        self.unreadable.gather()
        if self.log is None:
            return
        folder, plan, learner = self.request.output, self.plan, self.learner
        if epoch is not None:
            self.log.epoch(epoch)
            if epoch.best:
                save_weights(folder / files.BEST, plan, learner, epoch)
            save_weights(folder / files.LAST, plan, learner, epoch)
        self.log.flush()
        save_state(folder, plan, learner, self.progress)
        if epoch is not None:
            self.observer.epoch(epoch, epochs=plan.recipe.epochs)

    def _result(self) -> TrainResult:
        folder, progress = self.request.output, self.progress
        return TrainResult(
            tuple(progress.epochs),
            folder / files.BEST,
            folder / files.LAST,
            self.unreadable.reasons,
            progress.new_classifier,
        )


def _peak_memory_bytes(device: torch.device) -> int:
    """The most that this process held: on the GPU, or in memory where it works on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
