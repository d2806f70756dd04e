"""The process that names calibration images while a suite is planned: `python -m models.calibration_check`.

A list of `{"data": "digits" or a folder, "count": N or null}` in; out a list of `{"images": TEXT}`, as
CalibrationImages writes itself, or `{"problem": TEXT}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.answering import answer
from models.calibration_draw import named
from models.errors import DataError


def answers(questions: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [_answer(each["data"], each["count"]) for each in questions]


def _answer(data: str, count: int | None) -> dict[str, str]:
    try:
        return {"images": str(named(data, count))}
    except DataError as error:
        return {"problem": str(error)}


if __name__ == "__main__":
    answer(answers)
