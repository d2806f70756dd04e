"""How well something predicts the order of latencies: Kendall's tau between it and what was measured.

What predicts is a count (GMACs, parameters) or a latency that others published on their device. Ranks are
compared, never times: the two need not share device, batch or precision.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from reports.records import PublishedFigure
from reports.statistics import kendall_tau
from reports.tables import Facet, Row

MIN_CASES = 3
MIN_CASES_FOR_INTERVAL = 10


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a predictor says about one case; two values nearer than their errors together are a tie."""

    value: float
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b of a predictor and the measured latencies of one group.

    `predictor` is its name, `setup` the whole of what is known about a published one. `tau` is None where
    the predictor or the latency never differs. `low` and `high` are its 95 % interval over networks like
    these, None where the cases are too few for one. `contrary` of `pairs` are in the other order, beyond the
    noise of the measurement and the reading error of the predictor.
    """

    predictor: str
    setup: str
    published: bool
    cases: int
    tau: float | None
    low: float | None
    high: float | None
    contrary: int
    pairs: int


def agreements(facet: Facet, figures: Mapping[tuple[str, int], PublishedFigure]) -> list[Agreement]:
    """One for GMACs, for parameters, and for every published setup with three ranked cases or more.

    `figures` are by model name and resolution.
    """
    found = [
        _agreement(
            facet, name, "", {row.case.id: Predicted(getattr(row, cost)) for row in _with(facet, cost)}
        )
        for cost, name in (("gmacs", "GMACs"), ("params_m", "parameters"))
    ]
    for (runtime, setup), values in _published(facet, figures).items():
        found.append(_agreement(facet, f"{runtime}, {setup.partition(',')[0]}", setup, values))
    return [one for one in found if one.cases >= MIN_CASES]


def interval(tau: float, cases: int) -> tuple[float, float] | None:
    """95 % interval of Kendall's tau: atanh(tau) is about normal with variance 0.437 / (n - 4).

    Fieller, Hartley and Pearson, Tests for rank correlation coefficients I, Biometrika 44 (1957); with
    Student's t of n - 2 degrees of freedom, as the normal quantile covers a strong correlation of ten cases
    in 90 of 100. None for fewer than ten cases, and where all pairs agree or all disagree, of which it
    cannot speak.
    """
    from scipy.special import stdtrit

    if cases < MIN_CASES_FOR_INTERVAL or abs(tau) >= 1.0:
        return None
    half = float(stdtrit(cases - 2, 0.975)) * math.sqrt(0.437 / (cases - 4))
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)


def _with(facet: Facet, cost: str) -> list[Row]:
    return [row for row in facet.ranked if getattr(row, cost)]


def _published(
    facet: Facet, figures: Mapping[tuple[str, int], PublishedFigure]
) -> dict[tuple[str, str], dict[str, Predicted]]:
    """By (runtime, setup): what was published of each ranked case; the setups with most cases first."""
    found: dict[tuple[str, str], dict[str, Predicted]] = {}
    for row in facet.ranked:
        figure = figures.get((row.case.model.name, row.case.model.resolution))
        for one in figure.latencies if figure else ():
            found.setdefault((one.runtime, one.setup), {})[row.case.id] = Predicted(one.ms, one.error_ms)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _agreement(facet: Facet, name: str, setup: str, values: Mapping[str, Predicted]) -> Agreement:
    signs = [
        (_sign(values[one], values[other]), facet.ordering.sign(one, other))
        for one, other in itertools.combinations(values, 2)
    ]
    tau = kendall_tau(signs) if signs else None
    low, high = (tau is not None and interval(tau, len(values))) or (None, None)
    contrary = sum(said * measured < 0 for said, measured in signs)
    return Agreement(name, setup, bool(setup), len(values), tau, low, high, contrary, len(signs))


def _sign(one: Predicted, other: Predicted) -> int:
    difference = one.value - other.value
    if abs(difference) <= one.error + other.error:
        return 0
    return 1 if difference > 0 else -1
