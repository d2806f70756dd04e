"""The curves of a broken and resumed training, as TensorBoard shows them: no point is lost or there twice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from models import training_files as files
from models.recipe import Recipe
from models.trainer import train
from models.training_log import TrainingLog
from models.training_request import TrainRequest

STEPS = 5  # an epoch has: 40 images in batches of 8


def events(path: Path) -> Iterator[Event]:
    """Every record of an event file: length, sum, event, sum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def shown(folder: Path) -> dict[str, list[int]]:
    """The steps of every curve, by TensorBoard's rule: a START drops what came before from its step on."""
    curves: dict[str, list[int]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in events(path):
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                curves = {tag: [step for step in old if step < event.step] for tag, old in curves.items()}
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append(event.step)
    return curves


@pytest.fixture
def request_(stripes: Path, tmp_path: Path) -> TrainRequest:
    recipe = Recipe(resolution=16, epochs=3, batch_size=8, warmup_epochs=0)
    return TrainRequest("nextvit_micro", recipe, tmp_path / "out", data=stripes)


def test_resuming_behind_an_epoch_keeps_its_point(request_, new_watcher, train_one_epoch: Callable):
    train_one_epoch(request_)
    train(replace(request_, resume=True), new_watcher())
    curves = shown(request_.output)
    assert curves["val/top1"] == curves["epoch/train_loss"] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert curves["train/loss"] == [10]


def test_what_is_done_again_takes_the_place_of_what_was(request_, new_watcher, monkeypatch):
    """Killed when epoch 2 is in the curves and not in the state: it is done again, from epoch 1."""
    save = files.save

    def until_second_epoch(path, tensors, facts):
        if path.name == files.STATE and facts["step"] == 2 * STEPS:
            raise KeyboardInterrupt
        save(path, tensors, facts)

    monkeypatch.setattr(files, "save", until_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(request_, new_watcher())
    monkeypatch.undo()
    assert shown(request_.output)["val/top1"] == [STEPS, 2 * STEPS]
    train(replace(request_, resume=True), new_watcher())
    assert shown(request_.output)["val/top1"] == [STEPS, 2 * STEPS, 3 * STEPS]


def test_flushed_points_outlive_the_process(tmp_path):
    with closing(TrainingLog(tmp_path, start_step=0)) as log:
        log.write(3, {"train/loss": 0.5})
        log.flush()
        assert shown(tmp_path) == {"train/loss": [3]}
