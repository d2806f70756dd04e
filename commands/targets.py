"""The compute capability that an engine is built for: that of the GPU here, or what is configured."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache

from commands import UsageError
from runners import BackendInfo, environment, parse_device

TARGET = re.compile(r"sm[1-9]\d{1,2}[a-z]?")


def builds_for_target(info: BackendInfo) -> bool:
    """Engines are built for one compute capability; all other files run anywhere."""
    return info.artifact_kind == "engine"


def targets(
    info: BackendInfo, device: str, *, asked: Sequence[str], configured: Sequence[str]
) -> tuple[str, ...]:
    """What is asked for, else the GPU that is here, else what bench.toml names; one empty one for all others.

    Raises UsageError where the GPU behind `device` cannot be told.
    """
    if not builds_for_target(info):
        return ("",)
    here = target_here(device) if not asked else ""
    return tuple(asked) or ((here,) if here else tuple(configured))


def target_here(device: str) -> str:
    """`sm89`, the compute capability of the GPU that a device such as `cuda:1` means; empty without a GPU.

    Raises UsageError where several kinds of GPU are here and their order is not known: CUDA counts the
    fastest first unless CUDA_DEVICE_ORDER is PCI_BUS_ID, the driver's tools count by PCI address.
    """
    found = _gpu_targets()
    try:
        kind, index = parse_device(device)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if kind != "cuda" or not found:
        return ""
    if index >= len(found):
        raise UsageError(f"device '{device}' is not here: this machine has {len(found)} GPUs")
    if len(set(found)) == 1:
        return found[0]
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" or "CUDA_VISIBLE_DEVICES" in os.environ:
        raise UsageError(
            f"this machine has GPUs of {', '.join(sorted(set(found)))}: name one with --target, or set"
            " CUDA_DEVICE_ORDER=PCI_BUS_ID and unset CUDA_VISIBLE_DEVICES"
        )
    return found[index]


def built_elsewhere(target: str, device: str) -> str:
    """Why an engine for `target` cannot be timed on the GPU here; empty where it can, or no GPU is here."""
    here = target_here(device) if target else ""
    if not here or here == target:
        return ""
    return f"the GPU on this machine is {here}, the engine is built for {target}"


def check_target(value: str, option: str) -> str:
    """Raises UsageError for what is not written like `sm89`."""
    if not TARGET.fullmatch(value):
        raise UsageError(f"{option}: '{value}' is not a compute capability written like 'sm89'")
    return value


@cache
def _gpu_targets() -> tuple[str, ...]:
    return tuple(gpu["target"] for gpu in environment.describe_gpus())
