"""Checkpoint files into networks: read without running code, matched by name, loaded whole or not at all.

safetensors first; `.pth` and `.pt` only with `torch.load(weights_only=True)`. A pickle that would run code is
refused: convert it to safetensors on a machine that trusts it.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import CheckpointError

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
WRAPPERS = ("model", "state_dict", "module")
EMA_WRAPPERS = ("model_ema", "state_dict_ema", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.")
SHOWN = 10


def load_checkpoint(net: nn.Module, path: Path, *, ema: bool = False) -> None:
    """Load a checkpoint into `net`; strict, and `net` is unchanged where anything is wrong.

    Takes a plain state dict or one wrapped as `model` or `state_dict`, with or without `module.` prefixes,
    and for Next-ViT the names of the official code and of timm. Where a file holds both the weights and their
    moving average, the weights are taken; `ema=True` asks for the average. Raises CheckpointError.
    """
    load_state(net, named_state(net, path, ema=ema), path)


def named_state(net: nn.Module, path: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names that `net` has for them. Raises CheckpointError."""
    state = _without_prefix(_state_dict(read(path), path, ema=ema))
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = getattr(
        net, "checkpoint_names", None
    )
    return rename(state) if rename is not None else state


def load_state(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load what `named_state` read from `path`, as strictly as `load_checkpoint`. Raises CheckpointError."""
    expected = {name: tensor for name, tensor in net.state_dict().items() if isinstance(tensor, Tensor)}
    _check_names(path, expected, state)
    _check_shapes(path, expected, state)
    net.load_state_dict({**expected, **state})


def read(path: Path) -> Any:
    """What a checkpoint file holds, read on the CPU. Raises CheckpointError for anything but a checkpoint."""
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickled(path)
    raise CheckpointError(
        f"{path}: '{path.suffix}' is no checkpoint: give .safetensors or {', '.join(PICKLED)}"
    )


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file: {error}") from error


def _read_pickled(path: Path) -> Any:
    # Training scripts keep their arguments beside the weights; argparse's Namespace is data and runs no code.
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with allowed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of pickle protocols that it then reads or refuses
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_why_refused(path, str(error))) from error
        except Exception as error:  # a damaged file makes the unpickler raise nearly anything
            raise CheckpointError(f"{path}: truncated, or not a checkpoint: {_first_line(error)}") from error


def _why_refused(path: Path, message: str) -> str:
    needed = re.search(r"GLOBAL (\S+)", message)
    if needed:
        return (
            f"{path}: loading it would run code ({needed[1]}), so it is refused: "
            "convert it to safetensors on a machine that trusts it"
        )
    reason = re.search(r"Unsupported operand \d+|[^\n]*\bgot\b[^\n]*", message)
    return f"{path}: not a checkpoint of plain tensors: {reason[0] if reason else message.splitlines()[0]}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _state_dict(content: Any, path: Path, *, ema: bool) -> dict[str, Tensor]:
    found = [key for key in (*WRAPPERS, *EMA_WRAPPERS) if _is_dict(content) and _is_dict(content.get(key))]
    averages = [key for key in found if key in EMA_WRAPPERS]
    if ema and not averages:
        raise CheckpointError(f"{path}: holds no moving average ({', '.join(EMA_WRAPPERS)}): leave ema out")
    if found:
        content = content[averages[0] if ema else found[0]]
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if _is_dict(content)
        else {}
    )
    if not tensors or len(tensors) != len(content):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__} with {len(tensors)} tensors: "
            f"a state dict, or one under {', '.join((*WRAPPERS, *EMA_WRAPPERS))}, is needed"
        )
    return tensors


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the network has them: wrappers such as DataParallel put a prefix before every one."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefix({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state


def _check_names(path: Path, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    # Checkpoints from before PyTorch 1.0 lack the batch counter, which inference does not read.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    if not missing and not unexpected:
        return
    lines = [f"{path}: does not fit the network: build the model it was saved from"]
    lines += _listed("missing", missing) + _listed("unexpected", unexpected)
    raise CheckpointError("\n".join(lines))


def _check_shapes(path: Path, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in state.items() if tensor.shape != expected[name].shape]
    if not wrong:
        return
    shapes = [f"{name} {tuple(state[name].shape)}, network {tuple(expected[name].shape)}" for name in wrong]
    classes = _other_classes(wrong, expected, state)
    fix = f"build the model with num_classes={classes}" if classes else "build the model it was saved from"
    raise CheckpointError("\n".join([f"{path}: does not fit the network: {fix}", *_listed("shape", shapes)]))


def _other_classes(
    wrong: list[str], expected: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> int | None:
    """The file's number of classes, where only the last Linear differs, and only in its rows."""
    owners = {name.rpartition(".")[0] for name in wrong}
    is_last = list(expected)[-1].rpartition(".")[0] in owners
    rows_only = all(state[name].shape[1:] == expected[name].shape[1:] and state[name].ndim for name in wrong)
    return len(state[wrong[0]]) if len(owners) == 1 and is_last and rows_only else None


def _listed(kind: str, items: Iterable[str]) -> list[str]:
    items = list(items)
    more = [f"  and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"{len(items)} {kind}:", *(f"  {item}" for item in items[:SHOWN]), *more] if items else []
