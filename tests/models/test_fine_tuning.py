"""Starting from weights of other classes: the classifier alone begins anew, and no other model passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import models
from models.errors import CheckpointError
from models.fine_tuning import load_start
from models.learner import Learner, build_network
from models.processes import Processes
from models.recipe import Recipe
from models.spec import ModelSpec
from models.training_plan import plan
from models.training_request import NewClassifier, TrainRequest

RECIPE = Recipe(resolution=32, epochs=2, batch_size=8, warmup_epochs=0, seed=3)
LINEAR = ("head.weight", "head.bias")
# Models of ours and of timm with one classifier and with two, each with its classifiers' tensors.
CLASSIFIERS = {
    "nextvit_micro": LINEAR,
    "blocknet/convnext": ("head.head.weight", "head.head.bias"),
    "mobilevig_ti": tuple(
        f"head.{name}" for name in ("head.weight", "head.bias", *("distilled.weight", "distilled.bias"))
    ),
    "timm/test_resnet": ("fc.weight", "fc.bias"),
    "timm/test_efficientnet": ("classifier.weight", "classifier.bias"),
    "timm/test_convnext": ("head.fc.weight", "head.fc.bias"),
    "timm/deit_tiny_distilled_patch16_224": (*LINEAR, "head_dist.weight", "head_dist.bias"),
}


def saved(path: Path, name: str, classes: int, **options: object) -> dict[str, torch.Tensor]:
    """A file of the model's weights, none of them as they are initialized."""
    net = models.build(name, num_classes=classes, **options)
    state = {key: torch.randn(t.shape) if t.is_floating_point() else t for key, t in net.state_dict().items()}
    save_file(state, path)
    return state


def spec_of(name: str, classes: int) -> ModelSpec:
    return ModelSpec.of(name, resolution=32, num_classes=classes)


def built(name: str, classes: int) -> nn.Module:
    return models.build(name, num_classes=classes)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifier_begins_anew_and_all_else_is_the_files(name, tmp_path):
    theirs = saved(tmp_path / "start.safetensors", name, 21)
    net = built(name, 3)
    own = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    drawn = torch.get_rng_state()
    found = load_start(net, tmp_path / "start.safetensors", spec_of(name, 3))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert found is not None
    assert sorted(found.tensors) == sorted(CLASSIFIERS[name])
    assert (found.file_classes, found.classes) == (21, 3)
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, own[key] if key in found.tensors else theirs[key]), key


def test_weights_of_the_same_classes_are_loaded_whole(tmp_path):
    theirs = saved(tmp_path / "start.safetensors", "nextvit_micro", 3)
    net = built("nextvit_micro", 3)
    assert load_start(net, tmp_path / "start.safetensors", spec_of("nextvit_micro", 3)) is None
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in net.state_dict().items())


def test_a_classifier_that_begins_anew_comes_from_the_seed(tmp_path):
    """The same as that of a training from the beginning with this seed."""
    saved(tmp_path / "start.safetensors", "nextvit_micro", 21)
    request = TrainRequest("nextvit_micro", RECIPE, tmp_path / "out", start=tmp_path / "start.safetensors")
    cpu = Processes(torch.device("cpu"))
    made = Learner(plan(request, cpu), request, cpu.device)
    from_seed = build_network(spec_of("nextvit_micro", 10), RECIPE)
    assert torch.equal(made.net.head.weight, from_seed.head.weight)
    assert made.new_classifier == NewClassifier(LINEAR, 21, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update({"norm.weight": torch.ones(7)}), "shape"),
        (lambda state: state.update({"head.weight": torch.ones(21, 64)}), "shape"),
        (lambda state: state.update({"head.bias": torch.ones(20)}), "shape"),
        (lambda state: state.update({"more": torch.ones(1)}), "1 unexpected:\n  more"),
        (lambda state: state.pop("norm.weight"), "1 missing:\n  norm.weight"),
        (lambda state: state.update({name: state[name][:0] for name in LINEAR}), "shape"),
        (lambda state: state.update({"head.weight": torch.tensor(1.0)}), "shape"),
    ],
    ids=["a norm too", "wider", "bias of others", "unexpected", "missing", "no classes", "a number"],
)
def test_where_more_than_the_classes_differs_it_is_another_model(tmp_path, change, message):
    state = saved(tmp_path / "start.safetensors", "nextvit_micro", 21)
    change(state)
    save_file(state, tmp_path / "start.safetensors")
    net = built("nextvit_micro", 3)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"does not fit the network(.|\n)*{message}"):
        load_start(net, tmp_path / "start.safetensors", spec_of("nextvit_micro", 3))
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def test_a_teacher_must_know_the_classes(tmp_path):
    path = tmp_path / "teacher.safetensors"
    saved(path, "nextvit_micro", 21)
    request = TrainRequest(
        "nextvit_micro", RECIPE, tmp_path / "out", teacher="nextvit_micro", teacher_checkpoint=path
    )
    cpu = Processes(torch.device("cpu"))
    with pytest.raises(CheckpointError, match="knows 21 classes, the images have 10: fine-tune it on them"):
        Learner(plan(request, cpu), request, cpu.device)
