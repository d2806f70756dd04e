"""What stands at the top of a run: the answer to what was asked of it."""

from __future__ import annotations

from reports import additivity, findings, roofline
from reports.tables import RunTable


def headline(table: RunTable) -> str:
    """How a network's parts add up, what is reached of the machine's peak, or else what is fastest."""
    return additivity.headline(table) or roofline.headline(table) or findings.headline(table)
