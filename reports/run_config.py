"""What the configuration of a run from a file must hold, where a report reads it."""

from __future__ import annotations

from dataclasses import dataclass

from reports.match_found import found_of
from reports.records import IMPORTED, RunInfo
from reports.strict import FormError, built


@dataclass(frozen=True)
class _Target:
    """Read by every table, and from a part of the configuration that has no type of its own."""

    target: float


def check_config(info: RunInfo) -> None:
    """Raises FormError for a value that a report could not read, and for one that only a store adds."""
    built(lambda given: _Target(given.target), info, "run.config.timing")
    found_of(info)
    if IMPORTED in info.config:
        raise FormError(f"run.config holds '{IMPORTED}', which only a store adds")
