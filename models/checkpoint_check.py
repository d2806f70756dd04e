"""The process that tries checkpoints before a suite is measured: `python -m models.checkpoint_check`.

A list of `{"model": SPEC, "checkpoint": PATH}` in, a list of texts out: what is wrong, empty where it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.answering import answer
from models.building import instantiate
from models.errors import ModelError
from models.spec import ModelSpec


def problems(questions: Iterable[Mapping[str, Any]]) -> list[str]:
    return [_problem(ModelSpec.from_dict(each["model"]), Path(each["checkpoint"])) for each in questions]


def _problem(spec: ModelSpec, checkpoint: Path) -> str:
    """Loaded just as a conversion loads it."""
    try:
        instantiate(spec, checkpoint=checkpoint)
    except ModelError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    answer(problems)
