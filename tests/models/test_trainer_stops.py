"""Where a training of the trainer stops: what it says, and that what was saved before is whole."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models import training_files as files
from models.errors import CheckpointError, DataError, ModelError
from models.processes import Processes
from models.recipe import Recipe, RecipeError
from models.trainer import Trainer, train
from models.training_files import SaveError
from models.training_request import Epoch, TrainingStopped, TrainRequest
from models.training_stops import stops

RECIPE = Recipe(resolution=16, epochs=4, batch_size=8, warmup_epochs=1, stochastic_depth=0.1, mixup=0.1)
STEPS = 5  # an epoch has: 40 images in batches of 8
VIT = {"model": "timm/test_vit", "options": (("img_size", 16), ("patch_size", 4))}


@pytest.fixture
def request_for(stripes: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    def make(output: str = "out", *, recipe: Recipe = RECIPE, **changes) -> TrainRequest:
        return replace(TrainRequest("nextvit_micro", recipe, tmp_path / output, data=stripes), **changes)

    return make


def changed(**values) -> Recipe:
    return Recipe.model_validate({**RECIPE.model_dump(), **values})


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_checkpoint(request_for, new_watcher):
    request = request_for()
    watcher = new_watcher()
    trainer = Trainer(request, Processes(torch.device("cpu")), watcher)

    def poison(epoch: Epoch) -> None:
        nn.init.constant_(trainer.learner.net.head.bias, float("nan"))

    watcher.at_epoch = poison
    with pytest.raises(
        TrainingStopped, match=rf"loss is not finite in epoch 2, step {STEPS + 1} of {4 * STEPS}"
    ):
        trainer.run()
    saved = files.read(request.output / files.STATE)
    assert saved.facts["step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in saved.tensors.values())


def test_gradients_that_fp16_never_makes_finite_stop_it(request_for, new_watcher):
    """The loss is finite; every step is left out, with half the scale each time."""
    request = request_for(recipe=changed(epochs=8, precision="fp16"), **VIT)
    watcher = new_watcher()
    trainer = Trainer(request, Processes(torch.device("cpu")), watcher)
    trainer.learner.net.head.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        TrainingStopped, match=r"32 steps in a row .* in epoch 7, step 32 of 40: .*checkpoint is .*out/state"
    ):
        trainer.run()
    assert len(watcher.losses) == 31
    assert trainer.learner.scaler.get_scale() <= 2.0 ** (16 - 32)


def test_a_worker_that_is_killed_stops_it_and_says_what_to_change(request_for, new_watcher):
    """As the system does where memory ends; the last checkpoint is whole, and nobody is left behind."""
    request = request_for(workers=2)
    watcher = new_watcher()

    def kill(epoch: Epoch) -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    watcher.at_epoch = kill
    with pytest.raises(
        TrainingStopped,
        match=r"a process that loads images ended in epoch \d, step \d+ of 20: DataLoader worker \(pid"
        r".*/dev/shm .*--workers.* the last whole checkpoint is .*state\.safetensors",
    ):
        train(request, watcher)
    assert multiprocessing.active_children() == []
    assert files.read(request.output / files.STATE).facts["step"] >= STEPS
    result = train(replace(request, resume=True), new_watcher())
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3, 4]


def test_memory_that_the_cpu_has_not_stops_it(tmp_path):
    """A request for 4 PiB, which PyTorch refuses with a plain RuntimeError."""
    with (
        pytest.raises(TrainingStopped, match="out of memory in step 1: take the batch in more parts;"),
        stops(lambda: "step 1", tmp_path, compiled=False),
    ):
        torch.empty(2**50)


class _Hungry(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.empty(2**50)


def test_memory_that_a_worker_has_not_is_told_as_its_own(tmp_path):
    with (
        pytest.raises(TrainingStopped, match=r"a process that loads images ended in step 1: .*--workers"),
        stops(lambda: "step 1", tmp_path, compiled=False),
    ):
        next(iter(torch.utils.data.DataLoader(_Hungry(), num_workers=1)))


def test_another_error_is_not_taken_for_it(tmp_path):
    with (
        pytest.raises(RuntimeError, match="must match the size"),
        stops(lambda: "step 1", tmp_path, compiled=False),
    ):
        torch.add(torch.ones(2), torch.ones(3))


def test_one_set_of_workers_loads_both_splits(request_for, new_watcher):
    watcher = new_watcher()
    seen: list[set[int | None]] = []

    def look(done: object) -> None:
        seen.append({child.pid for child in multiprocessing.active_children()})

    watcher.at_step = watcher.at_epoch = look
    train(request_for(workers=2, recipe=changed(epochs=2)), watcher)
    assert len(seen) == 2 * STEPS + 2
    assert len(set().union(*seen)) == 2


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_one_before(request_for, new_watcher):
    """A limit on the size of files refuses the state as a full disk does, half written."""
    request = request_for()
    watcher = new_watcher()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(epoch: Epoch) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((request.output / files.STATE).stat().st_size // 2, hard))

    watcher.at_epoch = full
    try:
        with pytest.raises(
            SaveError, match=r"state.safetensors: cannot be saved: .* what was saved before is whole"
        ):
            train(request, watcher)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.read(request.output / files.STATE).facts["step"] == STEPS
    assert not list(request.output.glob(".*"))


def test_unreadable_images_are_named_once_and_left_out(request_for, stripes, tmp_path, new_watcher):
    copies = tmp_path / "copies"
    for split in ("train", "val"):
        for source in (stripes / split).glob("*/*.png"):
            for number in range(6):
                target = copies / split / source.parent.name / f"{source.stem}-{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, target)
    bad = copies / "train/level/00-0.png"
    bad.unlink()
    bad.write_bytes(b"no image")
    watcher = new_watcher()
    result = train(request_for(data=copies, recipe=changed(epochs=2)), watcher)
    assert [note for note in watcher.notes if str(bad) in note] == watcher.notes
    assert len(watcher.notes) == len(result.unreadable) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here refuses to be read")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_faulty_disk_stops_it_and_leaves_no_image_out(request_for, stripes, tmp_path, new_watcher, workers):
    """The first bytes of /proc/self/mem are mapped nowhere: reading them is an error of input."""
    shutil.copytree(stripes, tmp_path / "copy")
    faulty = tmp_path / "copy/val/level/00.png"
    faulty.unlink()
    faulty.symlink_to("/proc/self/mem")
    request, watcher = request_for(data=tmp_path / "copy", workers=workers), new_watcher()
    with pytest.raises(TrainingStopped) as caught:
        train(request, watcher)
    assert re.fullmatch(
        rf"an image is not read in epoch \d, step \d of {4 * STEPS}: {re.escape(str(faulty))}: Input/output"
        r" error: see that its disk or share works; the last whole checkpoint is .*state\.safetensors",
        str(caught.value),
    ), str(caught.value)
    assert watcher.notes == []


def test_too_many_unreadable_images_stop_before_anything_is_written(
    request_for, stripes, tmp_path, new_watcher
):
    for split in ("train", "val"):
        for name in ("level", "upright"):
            (tmp_path / "bad" / split / name).mkdir(parents=True)
            for number in range(6):
                (tmp_path / "bad" / split / name / f"{number}.png").write_bytes(b"no image")
    request = request_for(data=tmp_path / "bad")
    with pytest.raises(DataError, match=r"1 of 12 images of train cannot be read"):
        train(request, new_watcher())
    assert not request.output.exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": changed(batch_size=64)}, RecipeError, "batch_size=64: .* has 40 images"),
        ({"accumulate": 3}, RecipeError, "batch_size=8: does not fill 1 process x 3 parts .* multiple of 3"),
        ({"recipe": changed(batch_size=6), "accumulate": 2}, RecipeError, "3 images each: must be even"),
        ({"options": (("num_classes", 7),)}, ModelError, "num_classes: the images have 2"),
        ({"options": (("in_chans", 1),)}, ModelError, "in_chans: the images have 3"),
        ({"model": "block/ncb"}, ModelError, "block/ncb: a block is no classifier: train a network"),
        (
            {"model": "peak/copy", "recipe": changed(stochastic_depth=0.0)},
            ModelError,
            "unknown option 'num_classes",
        ),
        (
            {"model": "mobilevig_ti", "recipe": changed(resolution=32)},
            ModelError,
            "stochastic_depth=0.1: .* set it to 0",
        ),
        ({"model": "timm/vgg11"}, ModelError, "takes no stochastic depth: set stochastic_depth to 0"),
        ({"recipe": changed(resolution=4)}, ModelError, "resolution=4: must be an integer of at least 8"),
        ({"model": "timm/vit_tiny_patch16_224"}, ModelError, "resolution=16: no forward pass"),
        ({"start": Path("missing.safetensors")}, CheckpointError, "missing.safetensors: no such file"),
        ({"resume": True}, CheckpointError, "holds no training to go on with"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_writes_nothing(request_for, changes, error, message, new_watcher):
    request = request_for(**changes)
    with pytest.raises(error, match=message):
        train(request, new_watcher())
    assert not request.output.exists()


def test_another_training_is_not_gone_on_with(request_for, new_watcher):
    request = request_for(recipe=changed(epochs=1, warmup_epochs=0))
    train(request, new_watcher())
    with pytest.raises(CheckpointError, match="holds a training: --resume goes on with it"):
        train(request, new_watcher())
    for changes, message in (
        ({"recipe": changed(epochs=2, warmup_epochs=0)}, "was begun with epochs=1, now it is 2"),
        ({"data": None}, "was begun with num_classes=2, now it is 10"),
        (VIT, "is a training of nextvit_micro, not of timm/test_vit"),
        ({"teacher": "timm/resnet18"}, "was begun with teacher=none, now it is timm/resnet18"),
    ):
        with pytest.raises(CheckpointError, match=message):
            train(replace(request, **{"recipe": request.recipe, **changes}, resume=True), new_watcher())


def test_weights_of_another_model_are_no_start(request_for, new_watcher):
    result = train(request_for(recipe=changed(epochs=1, warmup_epochs=0)), new_watcher())
    request = request_for("other", start=result.best, **VIT)
    with pytest.raises(CheckpointError, match="does not fit the network: build the model it was saved from"):
        train(request, new_watcher())
    assert not request.output.exists()
