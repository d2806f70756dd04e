"""Simulated cases with a known truth: noise inside a process, between processes, and of the machine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr

from runners.simulated import Simulation

MEDIAN_NS = 1e7  # far over the shortest sample: nothing is looped, a round is 60 samples
BETWEEN = 0.0097  # spread of process medians measured on a quiet virtual machine, docs/measurement.md
NEIGHBOURS = 0.57  # correlation of neighbouring processes there

_LONGEST = 1024  # processes of one suite

Factor = Callable[[int], float]


def steady(turn: int) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class World:
    """One case. `machine` gives the factor on its latency by the turn of its process in the suite."""

    name: str
    simulation: Simulation
    machine: Factor = field(default=steady)

    @property
    def truth_ns(self) -> float:
        """The median latency, without what drifts or steps."""
        return self.simulation.median_ns * _mixture_median(self.simulation)

    def at(self, turn: int) -> Simulation:
        return replace(self.simulation, median_ns=self.simulation.median_ns * self.machine(turn))

    def seeded(self, *seed: int) -> World:
        """The same world with other draws: `seed` may be several numbers."""
        drawn = int(np.random.default_rng(seed).integers(1 << 62))
        return replace(self, simulation=replace(self.simulation, seed=drawn))

    def slower(self, ratio: float) -> World:
        return replace(self, simulation=replace(self.simulation, median_ns=self.simulation.median_ns * ratio))


def world(name: str, *, machine: Factor = steady, **noise: float) -> World:
    """Lognormal noise of 2 % inside a process and BETWEEN between them, unless told."""
    settings = {"median_ns": MEDIAN_NS, "sigma": 0.02, "between_sigma": BETWEEN, **noise}
    return World(name, Simulation(**settings), machine)


def _mixture_median(s: Simulation) -> float:
    """Of exp(sigma z), a share of it `second_ratio` times as long; 1 without a second mode."""
    if s.second_share in (0.0, 1.0) or s.sigma == 0.0:
        return s.second_ratio if s.second_share > 0.5 else 1.0
    shift = math.log(s.second_ratio)

    def excess(log: float) -> float:
        slow = float(ndtr((log - shift) / s.sigma))
        return (1 - s.second_share) * float(ndtr(log / s.sigma)) + s.second_share * slow - 0.5

    wide = abs(shift) + 10 * s.sigma
    return math.exp(float(brentq(excess, -wide, wide, xtol=1e-12)))


@dataclass(frozen=True, slots=True)
class Wandering:
    """A machine whose speed wanders from process to process: AR(1), stationary, the same for all cases."""

    seed: tuple[int, ...]
    spread: float = BETWEEN
    correlation: float = NEIGHBOURS

    def __call__(self, turn: int) -> float:
        return math.exp(self.spread * _autoregression(self.seed, self.correlation)[turn])


@functools.cache
def _autoregression(seed: tuple[int, ...], correlation: float) -> list[float]:
    noise = np.random.default_rng(seed).standard_normal(_LONGEST)
    noise[1:] *= math.sqrt(1 - correlation**2)
    values: list[float] = lfilter([1.0], [1.0, -correlation], noise).tolist()
    return values


@dataclass(frozen=True, slots=True)
class Ramp:
    """A machine that gets slower by the same amount with every process."""

    per_turn: float

    def __call__(self, turn: int) -> float:
        return 1.0 + self.per_turn * turn


@dataclass(frozen=True, slots=True)
class Step:
    """A machine that is `ratio` times as slow from process `after` on."""

    after: int
    ratio: float

    def __call__(self, turn: int) -> float:
        return self.ratio if turn >= self.after else 1.0


STATIONARY = (
    world("lognormal"),
    world("lognormal, quiet (0.2 % between processes)", between_sigma=0.002),
    world("lognormal, loud (1.8 % between processes)", between_sigma=0.018),
    world("bimodal (30 % take 1.1 times as long)", second_share=0.3, second_ratio=1.1),
    world("bimodal (45 % take 1.05 times as long)", second_share=0.45, second_ratio=1.05),
    world("AR(1), correlation 0.9", correlation=0.9),
)
