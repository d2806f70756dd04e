"""`[suites.NAME.match]`: a suite of networks that are searched by latency, and what it does unless told."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, lt=10**6)]
MAX_SEEDS = 1000
_SETTINGS = re.compile(r"([1-9]\d{0,3})-([1-9]\d{0,3})")


def settings_of(text: str) -> range:
    """`3-24` as its numbers, both ends in it. Raises ValueError."""
    found = _SETTINGS.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is not written like 3-24, the lowest and the highest")
    low, high = int(found[1]), int(found[2])
    if low > high:
        raise ValueError(f"'{text}' goes down: the lowest comes first, {high}-{low}")
    return range(low, high + 1)


def _settings(text: str) -> str:
    settings_of(text)
    return text


Settings = Annotated[str, AfterValidator(_settings)]


class MatchTable(BaseModel):
    """The reference, the networks that are matched to it, and how; the command line changes single values.

    `knob` is the builder's option that is searched, from the lowest to the highest of `settings`. Where none
    of them is near enough, `fine_knob` is searched at the nearest one; empty for none. `tolerance` is the
    share of the reference's time that a match may be away from it. `rounds` are those of the last run.
    `seeds` are the trainings of each network, 0 for none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reference: str
    reference_setting: Count | None = None
    models: Annotated[list[str], Field(min_length=1)]
    knob: str = "depth"
    settings: Settings
    fine_knob: str = ""
    fine_settings: Settings = "75-133"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.03
    backend: str = "onnxruntime"
    precision: str | None = None
    batch_size: Count = 1
    threads: Count = 1
    rounds: Annotated[int, Field(ge=2, le=1000)] = 20
    seeds: Annotated[int, Field(ge=0, le=MAX_SEEDS)] = 3
    epochs: Count = 20
