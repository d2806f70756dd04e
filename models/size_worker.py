"""The process that counts networks: names in on stdin, one JSON line each out on stdout.

`python -m models.size_worker`. A line out is `{"name": ..., "params_m": ..., "gmacs": ...}`, the sizes None
where the network cannot be built so. Nothing is computed: PyTorch's device `meta` has shapes and no values.
"""

from __future__ import annotations

import json
import sys
import warnings

import torch
from torch import nn

from models.answering import private_stdout
from models.building import build
from models.counting import count, params_m
from models.facts import USUAL_SIDE
from models.info import INFO
from models.spec import ModelSpec


def main() -> None:
    """Serve names until stdin ends; whatever libraries print goes to stderr."""
    replies = private_stdout()
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        name = line.strip()
        replies.write(json.dumps({"name": name, **sizes(name)}) + "\n")
        replies.flush()


def sizes(name: str) -> dict[str, float | None]:
    """Millions of parameters, and GMACs at batch 1 and the network's own resolution."""
    try:
        with torch.device("meta"):
            net = build(name, {})
    except Exception:  # a network's own code may raise anything; its conversion will tell
        return {"params_m": None, "gmacs": None}
    try:
        shape = ModelSpec.of(name, resolution=_side(name, net)).input_shape(1)
        with torch.device("meta"):
            gmacs: float | None = count(net, shape).gmacs
    except Exception:  # the same
        gmacs = None
    return {"params_m": params_m(net), "gmacs": gmacs}


def _side(name: str, net: nn.Module) -> int:
    if name in INFO:
        return INFO[name].resolution
    published = getattr(net, "default_cfg", None) or {}
    return int(published.get("input_size", (3, USUAL_SIDE, USUAL_SIDE))[-1])


if __name__ == "__main__":
    main()
