"""What ends a training from outside of it (memory, a worker, a compiler), told with the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from models import training_files as files
from models.errors import ReadingError
from models.training_request import TrainingStopped

COMPILERS = ("torch._dynamo", "torch._inductor")
# What PyTorch's DataLoader says of a worker that the system ended, and of one that finds no shared memory.
LOST_WORKER = "DataLoader worker (pid"
NO_SHARED_MEMORY = ("shared memory", "No space left on device", "torch_shm_manager")
CPU_ALLOCATOR = "DefaultCPUAllocator"  # what a plain RuntimeError names where memory ran out on the CPU


def kept(folder: Path) -> str:
    """What messages say of the checkpoint that is there."""
    state = folder / files.STATE
    return f"the last whole checkpoint is {state}" if state.exists() else "nothing was saved yet"


@contextmanager
def stops(where: Callable[[], str], folder: Path, *, compiled: bool) -> Iterator[None]:
    """Raises TrainingStopped for what the machine refuses, with where it was, why, and what to change."""
    try:
        yield
    except ReadingError as error:
        raise TrainingStopped(f"an image is not read in {where()}: {error}; {kept(folder)}") from error
    except Exception as error:
        if why := _lost_worker(error):
            raise TrainingStopped(
                f"a process that loads images ended in {where()}: {why}: memory or /dev/shm is too small for"
                f" so many: give fewer --workers, or enlarge it; {kept(folder)}"
            ) from error
        if _out_of_memory(error):
            raise TrainingStopped(
                f"out of memory in {where()}: take the batch in more parts; {kept(folder)}"
            ) from error
        if compiled and type(error).__module__.startswith(COMPILERS):
            raise TrainingStopped(
                f"torch.compile: {type(error).__name__}: {_first_line(error)}: train without it"
            ) from error
        raise


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


def _lost_worker(error: Exception) -> str:
    """Why a worker was lost, in a line; empty where `error` is anything else."""
    text = str(error)
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in text:
        return ""
    if text.startswith(LOST_WORKER):
        return _first_line(error)
    # An error in the worker itself comes with its traceback, the error last.
    last = text.strip().splitlines()[-1]
    return last if any(sign in last for sign in (*NO_SHARED_MEMORY, CPU_ALLOCATOR)) else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
