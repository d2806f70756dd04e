"""From a name or a ModelSpec to a network in eval mode. Loads torch; and timm for a timm model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from models.checkpoint import load_checkpoint
from models.errors import CheckpointError, ModelError
from models.info import check, check_name, check_options
from models.random_weights import randomize
from models.spec import ModelSpec
from models.tables import lookup


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The network or block `name`, in eval mode.

    Raises UnknownModelError, or ModelError naming the model, the option, the value and what is valid.
    """
    check_name(name)
    if name.startswith("timm/"):
        return _build_timm(name, options)
    check_options(name, options)
    builder = lookup(models.MODELS, "models", name)
    try:
        inspect.signature(builder).bind(**options)
    except TypeError as error:
        raise ModelError(f"{name}: {error}; it takes {inspect.signature(builder)}") from error
    net = builder(**options)
    assert isinstance(net, nn.Module)
    return net.eval()


def _build_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    import timm

    given = ", ".join(f"{option}={value!r}" for option, value in options.items())
    try:
        net = timm.create_model(name.removeprefix("timm/"), **options)
    except Exception as error:  # timm checks options by using them: any type may come out of its models
        raise ModelError(f"{name}: timm cannot build it with {given or 'its defaults'}: {error}") from error
    assert isinstance(net, nn.Module)
    return net.eval()


def instantiate(spec: ModelSpec, *, checkpoint: Path | None = None) -> nn.Module:
    """The network of `spec` in eval mode, its weights random from the seed or read from `checkpoint`.

    Random weights are equal for equal specs and leave torch's global generator as it was. A checkpoint must
    have the sha256 that the spec names, before and after it is read. Raises ModelError for what cannot be
    built or run at the spec's resolution, CheckpointError for the file.
    """
    check(spec)
    kind, _, value = spec.weights.partition(":")
    if (kind == "sha256") != (checkpoint is not None):
        raise CheckpointError(
            f"{spec.name}: weights={spec.weights} with checkpoint {checkpoint or 'not given'}: "
            "sha256 weights need their file, random weights have none"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(value) if kind == "random" else 0)
        net = build(spec.name, spec.build_options())
        if checkpoint is None:
            _check_output(spec, _try(spec, net))
            return net
    _check_sha256(checkpoint, value)
    load_checkpoint(net, checkpoint)
    _check_sha256(checkpoint, value)  # as a training may be writing to it
    return net


def _try(spec: ModelSpec, net: nn.Module) -> object:
    shape = spec.input_shape(1)
    try:
        return randomize(net, shape)
    except (
        Exception
    ) as error:  # whatever the forward pass of a foreign model raises for a shape it cannot take
        raise ModelError(
            f"{spec.name}: resolution={spec.resolution}: no forward pass for input {shape}: {error}"
        ) from error


def _check_output(spec: ModelSpec, output: object) -> None:
    if not isinstance(output, Tensor):
        raise ModelError(f"{spec.name}: its output is a {type(output).__name__}: one tensor can be compared")
    if not output.isfinite().all():
        raise ModelError(f"{spec.name}: weights={spec.weights}: its output is not finite with random weights")


def _check_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise CheckpointError(f"{path}: sha256 is {found}, the spec names {expected}: another file")
