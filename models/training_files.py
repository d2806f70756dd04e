"""What a training leaves behind: `state` to go on from, `best` and `last` to deploy, all safetensors.

Every file is written beside its place, brought to the disk and renamed: a reader finds the old or the new
one, whole. `state` is written last and is all that resuming reads: it alone decides how far a training is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from models.errors import CheckpointError

SCHEMA = 1
STATE, LAST, BEST = "state.safetensors", "last.safetensors", "best.safetensors"
FACTS = "deploybench"  # the key of our JSON in a file's metadata


class SaveError(OSError):
    """A checkpoint that could not be written; the one before it is whole."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A file's tensors by name, and its facts."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write atomically. Raises SaveError where the disk is full or refuses; `path` is then as it was."""
    part = path.with_name(f".{path.name}.part")
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        with saving(path):
            save_file(copies, part, {FACTS: json.dumps({"schema": SCHEMA, **facts})})
            _to_disk(part)
            part.replace(path)
            _to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """What the file system refuses is a SaveError that names `path`."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        whole = "; what was saved before is whole" if path.exists() else ""
        raise SaveError(
            f"{path}: cannot be saved: {error}: free some space or name another folder{whole}"
        ) from error


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Saved:
    """A file that `save` wrote. Raises CheckpointError for anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a complete checkpoint of a training: {error}") from error
    if facts.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path}: schema {facts.get('schema')}, not {SCHEMA}: go on with the program that wrote it"
        )
    return Saved(tensors, facts)


def moments(net: nn.Module, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `PARAMETER:NAME`: AdamW's step, first and second moment."""
    return {
        f"{parameter}:{name}": value
        for parameter, tensor in net.named_parameters()
        for name, value in optimizer.state.get(tensor, {}).items()
    }


def restore_moments(net: nn.Module, optimizer: optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put back what `moments` gave, in the layout of the parameters.

    In another layout the same sums may be rounded otherwise.
    """
    parameters = dict(net.named_parameters())
    for key, value in state.items():
        parameter, _, name = key.rpartition(":")
        like = parameters[parameter]
        kept = value if value.shape != like.shape else like.detach().clone().copy_(value)
        optimizer.state[like][name] = kept
