"""The names that a command line asks for: of precisions, models, backends, devices, targets, resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import models.info
from commands import UsageError
from commands.config import parse_shape
from commands.own_resolution import OWN
from commands.targets import check_target
from models.errors import ModelError
from models.spec import PRECISIONS
from models.tables import UnknownNameError, suggest
from runners import backend_info, parse_device

if TYPE_CHECKING:
    from commands.plan import Overrides


def check_names(overrides: Overrides) -> None:
    """Raises UsageError with the nearest name, so that a typo is not answered with 'no case left'."""
    for precision in overrides.precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{precision}': {suggest(precision, PRECISIONS)}")
    try:
        for name in overrides.models:
            models.info.check_name(name)
        for backend in overrides.backends:
            backend_info(backend)
        for device in overrides.devices:
            parse_device(device)
        for target in overrides.targets:
            check_target(target, "--target")
    except (UnknownNameError, ModelError, ValueError) as error:
        raise UsageError(str(error)) from None
    for value in overrides.resolutions:
        if "x" in value:
            parse_shape(value)
        elif value != OWN and not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UsageError(
                f"resolution '{value}' is not written like '224', or '14x14x384' for blocks, or '{OWN}'"
            )
