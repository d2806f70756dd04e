"""Real trainings of a small Next-ViT on striped images: they learn, stop when they must, and resume."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models import training_files as files
from models.recipe import Recipe
from models.trainer import train
from models.training_request import NewClassifier, TrainRequest

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(
    resolution=16,
    epochs=4,
    batch_size=8,
    lr=5e-3,
    warmup_epochs=1,
    clip_norm=5.0,
    ema_decay=0.9,
    stochastic_depth=0.1,
    mixup=0.1,
    min_scale=0.5,
    color_jitter=0.2,
    erasing=0.1,
)
STEPS = 5  # an epoch has: 40 images in batches of 8
VIT = {"model": "timm/test_vit", "options": (("img_size", 16), ("patch_size", 4))}  # has no BatchNorm


@pytest.fixture
def request_for(stripes: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    def make(output: str = "out", *, recipe: Recipe = RECIPE, **changes) -> TrainRequest:
        base = TrainRequest("nextvit_micro", recipe, tmp_path / output, data=stripes)
        return replace(base, **changes)

    return make


def changed(**values) -> Recipe:
    return Recipe.model_validate({**RECIPE.model_dump(), **values})


def weights(request: TrainRequest, name: str = files.STATE) -> dict[str, torch.Tensor]:
    return files.read(request.output / name).tensors


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_it_learns_and_leaves_weights_that_load(request_for, new_watcher):
    watcher = new_watcher()
    request = request_for(recipe=changed(epochs=8, mixup=0.0, erasing=0.0))
    result = train(request, watcher)
    assert len(watcher.losses) == 8 * STEPS
    assert np.mean(watcher.losses[-STEPS:]) < 0.7 * np.mean(watcher.losses[:STEPS])
    assert result.best_epoch.top1 > 0.9
    assert list(result.epochs) == watcher.epochs
    assert all(epoch.images_per_second > 0 and epoch.peak_memory_bytes > 10**7 for epoch in result.epochs)
    net = models.build("nextvit_micro", num_classes=2)
    models.load_checkpoint(net, result.best)
    assert_equal(net.state_dict(), weights(request, files.BEST))
    facts = files.read(result.best).facts
    assert (facts["classes"], facts["model"]) == (["level", "upright"], "nextvit_micro")
    assert facts["epoch"]["top1"] == result.best_epoch.top1


@pytest.fixture(scope="module")
def unbroken(stripes, tmp_path_factory, new_watcher) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    request = TrainRequest(
        "nextvit_micro", RECIPE, tmp_path_factory.mktemp("unbroken"), data=stripes, save_every=2
    )
    train(request, new_watcher())
    return weights(request)


@pytest.mark.parametrize("broken_after", [4, 2 * STEPS + 3], ids="after step {}".format)
def test_a_broken_training_ends_at_the_same_weights(request_for, unbroken, broken_after, new_watcher):
    def stop(done: int) -> None:
        if done == broken_after:
            raise KeyboardInterrupt

    watcher = new_watcher()
    watcher.at_step = stop
    request = request_for(save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(request, watcher)
    train(replace(request, resume=True), new_watcher())
    assert_equal(weights(request), unbroken)


def test_killed_between_the_files_of_a_checkpoint(request_for, unbroken, monkeypatch, new_watcher):
    """The weights of epoch 2 are written, the state is not: resuming goes back and writes them again."""
    save = files.save

    def until_second_epoch(path, tensors, facts):
        if path.name == files.STATE and facts["step"] == 2 * STEPS:
            raise KeyboardInterrupt
        save(path, tensors, facts)

    request = request_for(save_every=2)
    monkeypatch.setattr(files, "save", until_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(request, new_watcher())
    monkeypatch.undo()
    result = train(replace(request, resume=True), new_watcher())
    assert_equal(weights(request), unbroken)
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3, 4]


def test_bf16_and_rand_augment_end_at_the_same_weights_too(request_for, new_watcher):
    recipe = changed(epochs=2, precision="bf16", rand_augment="rand-m9-mstd0.5-inc1", cutmix=1.0)
    whole, parted = (request_for(name, recipe=recipe, save_every=3) for name in ("whole", "parted"))
    train(whole, new_watcher())

    def stop(done: int) -> None:
        if done == STEPS + 4:
            raise KeyboardInterrupt

    watcher = new_watcher()
    watcher.at_step = stop
    with pytest.raises(KeyboardInterrupt):
        train(parted, watcher)
    assert files.read(parted.output / files.STATE).facts["step"] == STEPS + 1
    train(replace(parted, resume=True, workers=2), new_watcher())
    assert_equal(weights(whole), weights(parted))


SCRIPT = """
import sys, torch
from pathlib import Path
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest
torch.set_num_threads(1)

class Quiet:
    def step(self, done, total, *, epoch, loss): print(done, flush=True)
    def epoch(self, epoch, *, epochs): pass
    def note(self, text): pass

recipe, output, data = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
train(TrainRequest("nextvit_micro", recipe, output, data=data, save_every=2, workers=1), Quiet())
"""


def test_a_killed_process_leaves_a_training_that_goes_on(request_for, unbroken, stripes, new_watcher):
    request = request_for("killed", save_every=2)
    argv = [sys.executable, "-c", SCRIPT, RECIPE.model_dump_json(), str(request.output), str(stripes)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == STEPS + 4:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 2 <= files.read(request.output / files.STATE).facts["step"] < RECIPE.epochs * STEPS
    train(replace(request, resume=True), new_watcher())
    assert_equal(weights(request), unbroken)


def test_a_finished_training_is_only_told_again(request_for, new_watcher):
    request = request_for(recipe=changed(epochs=2))
    result = train(request, new_watcher())
    written = (request.output / files.STATE).stat().st_mtime_ns
    watcher = new_watcher()
    assert train(replace(request, resume=True), watcher) == result
    assert watcher.losses == []
    assert (request.output / files.STATE).stat().st_mtime_ns == written


def test_parts_of_a_batch_are_the_batch(request_for, new_watcher):
    """On a network without BatchNorm, which would see the parts."""
    recipe = changed(epochs=1, stochastic_depth=0.0, mixup=0.0, ema_decay=0.0, warmup_epochs=0, lr=1e-3)
    runs = []
    for parts in (1, 4):
        request = request_for(f"{parts}", recipe=recipe, accumulate=parts, **VIT)
        train(request, new_watcher())
        runs.append(weights(request, files.LAST))
    assert runs[0].keys() == runs[1].keys()
    for name, tensor in runs[0].items():
        torch.testing.assert_close(runs[1][name], tensor, atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.slow)])
def test_mixed_precision_keeps_full_weights(request_for, precision, new_watcher):
    request = request_for(recipe=changed(epochs=2, precision=precision))
    watcher = new_watcher()
    train(request, watcher)
    assert np.mean(watcher.losses[STEPS:]) < np.mean(watcher.losses[:STEPS])
    assert {tensor.dtype for tensor in weights(request, files.LAST).values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_fp16_resumes_with_its_scale(request_for, new_watcher, train_one_epoch):
    recipe = changed(epochs=2, precision="fp16", ema_decay=0.0)
    whole, parted = (request_for(name, recipe=recipe, channels_last=True) for name in ("whole", "parted"))
    train(whole, new_watcher())
    train_one_epoch(parted)
    train(replace(parted, resume=True), new_watcher())
    assert_equal(weights(whole), weights(parted))
    scales = [files.read(one.output / files.STATE).facts["scaler"]["scale"] for one in (whole, parted)]
    assert scales[0] == scales[1] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_computes_the_same(request_for, new_watcher):
    recipe = changed(epochs=1, warmup_epochs=0, stochastic_depth=0.0, lr=1e-4)
    watchers = new_watcher(), new_watcher()
    for watcher, compiled in zip(watchers, (False, True), strict=True):
        train(request_for(f"{compiled}", recipe=recipe, compiled=compiled), watcher)
    assert watchers[1].losses == pytest.approx(watchers[0].losses, rel=1e-3)
    assert not any("_orig_mod" in name for name in weights(request_for("True"), files.LAST))


def test_fine_tuning_on_other_classes_says_so_and_is_resumed(
    request_for, stripes, tmp_path, new_watcher, train_one_epoch
):
    first = train(request_for(recipe=changed(epochs=1, warmup_epochs=0)), new_watcher())
    data = Path(shutil.copytree(stripes, tmp_path / "three"))
    for split in ("train", "val"):
        shutil.copytree(data / split / "level", data / split / "third")
    request = request_for("tuned", data=data, start=first.last, recipe=changed(epochs=2))
    watcher = train_one_epoch(request)
    text = "begun with a new classifier of 3 classes instead of 2 (head.weight, head.bias)"
    assert [note for note in watcher.notes if text in note] == watcher.notes
    assert len(watcher.notes) == 1
    first.last.unlink()  # a training that goes on has its weights itself
    result = train(replace(request, resume=True), new_watcher())
    assert result.new_classifier == NewClassifier(("head.weight", "head.bias"), 2, 3)
    assert weights(request, files.LAST)["head.weight"].shape[0] == 3


def test_fine_tuning_at_a_higher_resolution_starts_from_the_weights(request_for, new_watcher):
    first = train(request_for(recipe=changed(epochs=6, mixup=0.0)), new_watcher())
    tuned = changed(epochs=1, resolution=24, lr=1e-6, min_lr=1e-6, warmup_epochs=0)
    request = request_for("tuned", recipe=tuned, start=first.best)
    result = train(request, new_watcher())
    assert result.epochs[0].train_loss < 0.55  # untrained it is ln 2 = 0.69
    before, after = weights(request_for(), files.BEST), weights(request, files.LAST)
    torch.testing.assert_close(after["head.weight"], before["head.weight"], atol=1e-3, rtol=0)
