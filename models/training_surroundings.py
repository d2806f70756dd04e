"""What a training's numbers hang on besides what must be the same: with another it goes on, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from models.processes import Processes
from models.training_request import TrainRequest


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`device` is its type; `threads` are the CPU's in one process; `torch` is PyTorch's version."""

    processes: int
    accumulate: int
    device: str
    threads: int
    torch: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def surroundings(request: TrainRequest, processes: Processes) -> Surroundings:
    """Those of this run."""
    return Surroundings(
        processes.count,
        request.accumulate,
        processes.device.type,
        torch.get_num_threads(),
        str(torch.__version__),
    )


def tell_changes(
    path: Path, saved: Mapping[str, Any], now: Surroundings, *, note: Callable[[str], None]
) -> None:
    """One note that names all that is not as in the state in `path`; none where `saved` knows of nothing."""
    changed = [
        f"{name}={saved[name]}, now {value}"
        for name, value in now.to_dict().items()
        if name in saved and saved[name] != value
    ]
    if changed:
        note(
            f"{path}: was written with {'; '.join(changed)}: it goes on, but not to the numbers of an"
            " unbroken training, bit for bit"
        )
