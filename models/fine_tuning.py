"""Weights that a training starts from: of its classes, or of others and then with a new classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import models
from models.checkpoint import load_state, named_state
from models.image_loading import seeded
from models.spec import ModelSpec
from models.training_request import NewClassifier


def load_start(net: nn.Module, path: Path, spec: ModelSpec) -> NewClassifier | None:
    """Load a checkpoint into the network of `spec`; where it is of other classes, all but its classifier.

    The classifier then keeps the values that `net` has. Raises CheckpointError for another model's weights.
    """
    state = named_state(net, path)
    classifier = _new_classifier(_shapes(net), {name: each.shape for name, each in state.items()}, spec)
    if classifier is not None:
        own = net.state_dict()
        state |= {name: own[name] for name in classifier.tensors}
    load_state(net, state, path)
    return classifier


def _new_classifier(
    own: Mapping[str, torch.Size], given: Mapping[str, torch.Size], spec: ModelSpec
) -> NewClassifier | None:
    """What has other rows in the file; None where nothing has, or where more than the classes differ.

    The model itself tells which tensors its classifier has: it is built with the file's number of classes,
    and then every shape must be the file's.
    """
    changed = tuple(name for name, shape in own.items() if shape != given.get(name, shape))
    rows = {(_rows(given[name]), _rows(own[name])) for name in changed}
    if len(rows) != 1:
        return None
    ((file_classes, classes),) = rows
    if classes != spec.option("num_classes") or not file_classes:
        return None
    with seeded(0):  # leaves the generators as they were
        theirs = _shapes(models.build(spec.name, **{**spec.build_options(), "num_classes": file_classes}))
    if any(shape != theirs.get(name) for name, shape in given.items()):
        return None
    return NewClassifier(changed, file_classes, classes)


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: each.shape for name, each in net.state_dict().items() if isinstance(each, Tensor)}


def _rows(shape: torch.Size) -> int:
    return shape[0] if shape else 0
