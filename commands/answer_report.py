"""An answer (a comparison, a gate's verdict, a history) as the first section of a run's HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError

if TYPE_CHECKING:
    from reports.records import StoredRun
    from reports.sections import Section


def report_with(answer: Section, run: StoredRun, path: Path) -> str:
    """Write it; the path as text. Raises UsageError where it cannot be written."""
    return report_of(run, path, [answer])


def report_of(run: StoredRun, path: Path, first: Sequence[Section] = ()) -> str:
    """As `report_with`, of the run with any number of answers before it."""
    from commands.published import published_figures, published_points, unread_figures
    from reports.files import OutputError
    from reports.html import write_report

    try:
        write_report(
            run, path, published=published_figures(run), points=published_points(run), first=first,
            unread=unread_figures(run),
        )  # fmt: skip
    except OutputError as error:
        raise UsageError(str(error)) from None
    return str(path)
