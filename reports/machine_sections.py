"""The sections on what a machine makes of a network: how it scales, what fusion and forms save, its parts
added up, the peak."""

from __future__ import annotations

from reports import additivity, roofline, savings_section, sweep_section
from reports.sections import Section
from reports.tables import RunTable


def machine_sections(table: RunTable) -> list[Section]:
    """Those whose cases the run measured."""
    found = (
        sweep_section.section(table),
        savings_section.fusion_section(table),
        savings_section.forms_section(table),
        additivity.section(table),
        roofline.section(table),
    )
    return [section for section in found if section is not None]
