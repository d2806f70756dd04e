"""A model as a command line names it: builder's options, resolution and weights, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from commands import UsageError, options
from models.spec import ModelSpec, Option, sorted_options


def model_spec(
    name: str, *, resolution: str | None, chosen: Mapping[str, Option], checkpoint: Path | None
) -> ModelSpec:
    """`resolution` is an image's side, or a block's shape (`14x14x384`); the model's own by default.

    Raises UsageError for what cannot be built and for a checkpoint that cannot be read.
    """
    from commands.config import parse_shape
    from models.errors import ModelError
    from models.info import INFO, check

    settings = dict(chosen)
    given = resolution or str(INFO[name].resolution if name in INFO else 224)
    if "x" in given:
        side, channels = parse_shape(given)
        settings.setdefault("in_channels", channels)
    else:
        side = options.positive("--resolution")(given)
    spec = ModelSpec(name, side, sorted_options(settings), _weights(checkpoint))
    try:
        check(spec)
    except (ModelError, ValueError) as error:
        raise UsageError(str(error)) from None
    return spec


def _weights(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "random:0"
    try:
        with checkpoint.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UsageError(f"checkpoint {checkpoint}: cannot be read: {error.strerror}") from None
