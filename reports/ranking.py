"""The order of several cases by latency, as one family of comparisons: who may be called faster than whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.rounds import Floats, round_logs, turn_logs
from reports.verdicts import ALPHA, DELTA, holm, p_beyond, protocol_mismatch
from runners.measurement import Measurement

Signs = npt.NDArray[np.int8]
Turns = Mapping[int, Sequence[tuple[int, int, float]]]
Compared = tuple[Floats, Floats, Floats]
# Between batches a machine drifts, on a shared one by percents, which no interval of unpaired rounds holds.
BATCHES_DELTA = 0.05


@dataclass(frozen=True, slots=True)
class Rank:
    """The places that a case may have, 1 the fastest: `first` to `last`, as far as the noise allows to say.

    `first` is 1 plus the number of cases that are faster beyond the noise, `last` leaves room for all that
    are slower beyond it. Cases inside the noise of each other always have a place in common.
    """

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"


@dataclass(frozen=True, slots=True)
class Ordering:
    """Which of several cases are told apart; `signs[i, j]` is 1 where case i is slower than case j.

    -1 where it is faster, 0 for a tie. Whoever is faster than a case is faster than all that this one beats.
    """

    places: Mapping[str, int]
    signs: Signs

    def sign(self, one: str, other: str) -> int:
        """1 where `one` is slower than `other` beyond the noise, -1 where it is faster, else 0."""
        if one not in self.places or other not in self.places:
            return 0
        return int(self.signs[self.places[one], self.places[other]])

    def ranks(self) -> dict[str, Rank]:
        faster, slower = (self.signs > 0).sum(axis=1), (self.signs < 0).sum(axis=1)
        count = len(self.places)
        return {
            name: Rank(1 + int(faster[place]), count - int(slower[place]))
            for name, place in self.places.items()
        }


def no_order() -> Ordering:
    """Of no cases."""
    return Ordering({}, np.zeros((0, 0), dtype=np.int8))


def order(
    measurements: Mapping[str, Measurement], *, delta: float = DELTA, batched: bool = False
) -> Ordering:
    """Compares every pair, paired by round, at `delta`, all pairs one family (Holm).

    Where processes took turns, a round's ratio is that of their windows, as in a comparison of two cases.

    The chance that any two cases which are equal within `delta` are put apart is 5 % at most, however many
    there are. Of `batched` cases those without a common round are compared too, unpaired, at BATCHES_DELTA.
    Names are the caller's. Raises ProtocolMismatchError.
    """
    _require_one_protocol(list(measurements.values()))
    found = list(measurements.values())
    rounds = [round_logs(measurement) for measurement in found]
    columns = {index: place for place, index in enumerate(sorted({i for case in rounds for i in case}))}
    logs = _matrix(rounds, columns)
    signs = np.zeros((len(logs), len(logs)), dtype=np.int8)
    left, right = np.triu_indices(len(logs), k=1)
    pairs = _pairs(logs, _in_turns(found, columns))
    signs[left, right] = _told_apart(logs, pairs, delta=delta, batched=batched)
    signs[right, left] = -signs[left, right]
    return Ordering({name: place for place, name in enumerate(measurements)}, _closed(signs))


def rank_groups(measurements: Mapping[str, Measurement]) -> dict[str, Rank]:
    """The ranks of cases of one protocol, by latency; being tied is not transitive, so a rank is a range."""
    return order(measurements).ranks()


def kendall_tau(signs: Sequence[tuple[int, int]]) -> float | None:
    """Kendall's tau-b from the signs of the two differences of every pair, 0 for a tie.

    None where one of the two never differs.
    """
    first, second = np.array(signs).reshape(-1, 2).T
    untied = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float(first @ second) / untied if untied else None


def _matrix(logs: Sequence[Mapping[int, float]], columns: Mapping[int, int]) -> Floats:
    """(cases, rounds), NaN where a case has no such round; `columns` are the places of the rounds."""
    matrix = np.full((len(logs), len(columns)), np.nan)
    for row, case in zip(matrix, logs, strict=True):
        row[[columns[index] for index in case]] = list(case.values())
    return matrix


def _in_turns(found: Sequence[Measurement], columns: Mapping[int, int]) -> Turns:
    """By the place of a case: a later case, a round's column, and the logarithm of their ratio in it."""
    turns: dict[int, list[tuple[int, int, float]]] = {}
    for (place, later), logs in turn_logs(found).items():
        turns.setdefault(place, []).extend((later, columns[index], log) for index, log in logs.items())
    return turns


def _told_apart(logs: Floats, pairs: Sequence[Compared], *, delta: float, batched: bool) -> Signs:
    """1, -1 or 0 for every pair of rows in the order of `np.triu_indices`; `pairs` are those of `_pairs`."""
    means, errors, counts = (np.concatenate(part) for part in zip(*pairs, strict=True))
    degrees, margins = counts - 1.0, np.full(means.size, math.log1p(delta))
    if batched:
        apart = counts == 0
        means[apart], errors[apart], degrees[apart] = (part[apart] for part in _welch_pairs(logs))
        margins[apart] = math.log1p(max(delta, BATCHES_DELTA))
    tested = degrees > 0
    p_values = p_beyond(means[tested], errors[tested], degrees[tested], margin=margins[tested])
    signs = np.zeros(means.size, dtype=np.int8)
    signs[tested] = np.where(holm(p_values) <= ALPHA, np.sign(means[tested]), 0)
    return signs


def _pairs(logs: Floats, turns: Turns) -> list[Compared]:
    """(mean difference, its standard error, pairs of rounds) of each row to all later ones."""
    found = [(np.empty(0), np.empty(0), np.empty(0))]
    for place in range(len(logs) - 1):
        differences = logs[place] - logs[place + 1 :]
        for later, column, log in turns.get(place, ()):
            differences[later - place - 1, column] = log
        there = ~np.isnan(differences)
        counts = there.sum(axis=1).astype(np.float64)
        means = np.where(there, differences, 0.0).sum(axis=1) / np.maximum(counts, 1.0)
        squares = np.where(there, (differences - means[:, None]) ** 2, 0.0).sum(axis=1)
        found.append(
            (means, np.sqrt(squares / np.maximum(counts - 1.0, 1.0) / np.maximum(counts, 1.0)), counts)
        )
    return found


def _welch_pairs(logs: Floats) -> tuple[Floats, Floats, Floats]:
    """(difference, standard error, degrees of freedom) of each pair of rows by Welch, 0 degrees where a row
    has one round only; in the order of `np.triu_indices`."""
    there = ~np.isnan(logs)
    counts = there.sum(axis=1).astype(np.float64)
    means = np.where(there, logs, 0.0).sum(axis=1) / np.maximum(counts, 1.0)
    squares = np.where(there, (logs - means[:, None]) ** 2, 0.0).sum(axis=1)
    freedom = np.maximum(counts - 1.0, 1.0)
    parts = squares / freedom / np.maximum(counts, 1.0)
    left, right = np.triu_indices(len(logs), k=1)
    both = parts[left] + parts[right]
    spread = parts[left] ** 2 / freedom[left] + parts[right] ** 2 / freedom[right]
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(spread > 0, both**2 / spread, counts[left] + counts[right] - 2.0)
    degrees[(counts[left] < 2) | (counts[right] < 2)] = 0.0
    return means[left] - means[right], np.sqrt(both), degrees


def _closed(signs: Signs) -> Signs:
    """What follows from the verdicts: a slower than b and b than c makes a slower than c.

    Where that contradicts itself, which only cases of different rounds or of turns can do, there is a tie.
    """
    slower = signs > 0
    while True:
        further = slower | (slower.astype(np.float32) @ slower.astype(np.float32) > 0)
        if np.array_equal(further, slower):
            return further.astype(np.int8) - further.T.astype(np.int8)
        slower = further


def _require_one_protocol(found: Sequence[Measurement]) -> None:
    for other in found[1:]:
        if other.protocol.id != found[0].protocol.id:
            raise protocol_mismatch(found[0], other)
