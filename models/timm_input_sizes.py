"""The process that tells timm's input sizes: `python -m models.timm_input_sizes`.

A list of names in, an object out: by name (channels, height, width), or in words why there is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from timm.models import get_pretrained_cfg

from models.answering import answer


def input_sizes(names: Iterable[str]) -> dict[str, tuple[int, ...] | str]:
    return {name: _input_size(name.removeprefix("timm/")) for name in names}


def _input_size(name: str) -> tuple[int, ...] | str:
    """What timm's configuration names, that of the tag or else of the network's first one."""
    try:
        config = get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:  # what timm raises for a tag that the network has not
        return str(error)
    if config is None:
        return "timm has no configuration of it"
    return tuple(config.input_size)


if __name__ == "__main__":
    answer(input_sizes)
