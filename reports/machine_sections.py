"""The sections on what a machine does with a network: its parts added up, and the machine's own peak."""

from __future__ import annotations

from reports import additivity, roofline
from reports.sections import Section
from reports.tables import RunTable


def machine_sections(table: RunTable) -> list[Section]:
    """Those whose cases the run measured."""
    found = (additivity.section(table), roofline.section(table))
    return [section for section in found if section is not None]
