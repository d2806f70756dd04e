"""What a training was begun with, told apart without reading images: other data and teachers are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import models
from models import training_files as files
from models.errors import CheckpointError
from models.image_data import open_data
from models.recipe import Recipe
from models.trainer import train
from models.training_identity import Sources, sources
from models.training_request import TrainRequest

RECIPE = Recipe(resolution=16, epochs=1, batch_size=8, warmup_epochs=0)


@pytest.fixture
def copy(stripes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stripes, tmp_path / "copy"))


def of(folder: Path | None) -> Sources:
    return sources((open_data(folder, "train"), open_data(folder, "val")), None)


def test_a_folder_that_moved_or_was_copied_is_the_same(stripes, copy, monkeypatch):
    assert of(copy) == of(stripes)
    monkeypatch.chdir(copy.parent)
    assert of(Path("copy")) == of(stripes)
    monkeypatch.chdir(copy)
    assert of(Path()) == of(stripes)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train/level/03.png").rename(folder / "train/level/03b.png"),
        lambda folder: (folder / "val/level/03.png").write_bytes(b"of another size"),
        lambda folder: (folder / "val/upright/07.png").rename(folder / "val/upright/\udcff.png"),
    ],
    ids=["another name", "another size", "a name that is no text"],
)
def test_other_images_with_equal_counts_are_others(stripes, copy, change):
    change(copy)
    assert of(copy).images == of(stripes).images
    assert of(copy).files != of(stripes).files


def test_a_broken_link_is_an_image_without_a_size(stripes, copy):
    (copy / "train/level/03.png").unlink()
    (copy / "train/level/03.png").symlink_to("nowhere.png")
    assert of(copy).files != of(stripes).files


def test_digits_are_known_by_their_pixels():
    assert of(None) == of(None)
    assert of(None).files != ""


def test_the_same_training_on_other_images_is_not_gone_on_with(stripes, copy, tmp_path, new_watcher):
    request = TrainRequest("nextvit_micro", RECIPE, tmp_path / "out", data=stripes)
    train(request, new_watcher())
    again = replace(request, data=copy, resume=True)
    train(again, new_watcher())
    (copy / "train/level/03.png").write_bytes(b"of another size")
    with pytest.raises(CheckpointError, match=r"was begun with other images \(their names or sizes differ\)"):
        train(again, new_watcher())
    (copy / "train/level/03.png").unlink()
    with pytest.raises(CheckpointError, match="was begun with other classes or labels: give that data"):
        train(again, new_watcher())


def test_other_weights_of_the_teacher_are_not_gone_on_with(stripes, tmp_path, new_watcher):
    for number in range(2):
        torch.manual_seed(number)
        net = models.build("nextvit_micro", num_classes=2)
        save_file(net.state_dict(), tmp_path / f"{number}.safetensors")
    request = TrainRequest("nextvit_micro", RECIPE, tmp_path / "out", data=stripes, teacher="nextvit_micro")
    request = replace(request, teacher_checkpoint=tmp_path / "0.safetensors")
    train(request, new_watcher())
    again = replace(request, resume=True)
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "moved.safetensors")
    train(replace(again, teacher_checkpoint=tmp_path / "moved.safetensors"), new_watcher())
    with pytest.raises(CheckpointError, match="other weights of nextvit_micro: give that --teacher-check"):
        train(replace(again, teacher_checkpoint=tmp_path / "1.safetensors"), new_watcher())


@pytest.fixture
def older(stripes: Path, tmp_path: Path, train_one_epoch: Callable) -> TrainRequest:
    """A training that is half done, and whose state is of a version that knew no files."""
    request = TrainRequest(
        "nextvit_micro", RECIPE.model_copy(update={"epochs": 2}), tmp_path / "old", data=stripes
    )
    train_one_epoch(request)
    path = request.output / files.STATE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()[files.FACTS])
    for key in ("files", "teacher_weights", "new_classifier", "surroundings"):
        del facts[key]
    save_file(load_file(path), path, {files.FACTS: json.dumps(facts)})
    return replace(request, resume=True)


def test_an_older_training_goes_on_and_says_what_was_not_compared(older, new_watcher):
    watcher = new_watcher()
    result = train(older, watcher)
    assert len(result.epochs) == 2
    (note,) = watcher.notes
    assert "only classes and labels were compared" in note
    watcher = new_watcher()
    train(older, watcher)  # now it is one that knows its files
    assert watcher.notes == []


def test_an_older_training_of_other_labels_is_refused(older, copy, new_watcher):
    (copy / "train/level/03.png").unlink()
    with pytest.raises(CheckpointError, match="was begun with other classes or labels"):
        train(replace(older, data=copy), new_watcher())
