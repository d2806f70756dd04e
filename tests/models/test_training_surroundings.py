"""A training that goes on with other threads, processes or another PyTorch says so, once, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import training_files as files
from models.processes import Processes
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest
from models.training_surroundings import Surroundings, surroundings, tell_changes

NOW = Surroundings(processes=2, accumulate=1, device="cuda", threads=4, torch="2.14.1")


def told(saved: dict[str, object]) -> list[str]:
    notes: list[str] = []
    tell_changes(Path("state"), saved, NOW, note=notes.append)
    return notes


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("processes", 8, 2),
        ("accumulate", 4, 1),
        ("device", "cpu", "cuda"),
        ("threads", 1, 4),
        ("torch", "2.9.0", "2.14.1"),
    ],
)
def test_each_that_differs_is_named_with_both_values(name, before, now):
    (note,) = told({**NOW.to_dict(), name: before})
    assert note.startswith(f"state: was written with {name}={before}, now {now}: it goes on")


def test_all_that_differ_are_one_note():
    (note,) = told({**NOW.to_dict(), "processes": 1, "threads": 1})
    assert "processes=1, now 2; threads=1, now 4: it goes on" in note


def test_nothing_is_said_of_equal_ones_or_of_a_state_without_them():
    assert told(NOW.to_dict()) == told({}) == []


def test_they_are_those_of_this_run(tmp_path):
    request = TrainRequest("nextvit_micro", Recipe(), tmp_path, accumulate=3)
    found = surroundings(request, Processes(torch.device("cpu"), rank=1, count=2))
    assert found == Surroundings(2, 3, "cpu", torch.get_num_threads(), torch.__version__)


def test_a_resumed_training_tells_and_from_then_on_has_the_new_ones(
    stripes, tmp_path, new_watcher, train_one_epoch: Callable
):
    recipe = Recipe(resolution=16, epochs=2, batch_size=8, warmup_epochs=0)
    request = TrainRequest("nextvit_micro", recipe, tmp_path / "out", data=stripes)
    assert train_one_epoch(request).notes == []
    again, watcher = replace(request, resume=True, accumulate=2), new_watcher()
    assert len(train(again, watcher).epochs) == 2
    (note,) = watcher.notes
    assert "accumulate=1, now 2: it goes on" in note
    assert files.read(request.output / files.STATE).facts["surroundings"]["accumulate"] == 2
    finished = new_watcher()
    train(replace(again, accumulate=1), finished)
    assert finished.notes == []  # there is nothing left to go on with
