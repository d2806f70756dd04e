"""In which order runs were taken: a store's own by their numbers, imported ones by date among them.

The wall clock is set now and then, by hand or by the network: a date may lie before that of an earlier run.
The numbers of a store's own runs are in the order in which it took them. An imported run has the number of
its import, so its date is all that tells when it was taken.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from reports.records import IMPORTED, RunInfo


def taken_order(infos: Iterable[RunInfo]) -> list[int]:
    """The runs' numbers, oldest run first."""
    by_id = {info.run_id: info for info in infos}
    own = [run_id for run_id in sorted(by_id) if IMPORTED not in by_id[run_id].config]
    imported = [info for info in by_id.values() if IMPORTED in info.config]
    dates = [by_id[run_id].started_at_ns for run_id in own]
    trusted = _longest_rise(dates)
    rising = [dates[place] for place in trusted]
    places = {run_id: (place, 1, 0, run_id) for place, run_id in enumerate(own)}
    for info in imported:
        at_ns = info.started_at_ns
        nearest = bisect_left(rising, at_ns)
        place = trusted[nearest] if nearest < len(trusted) else len(own)
        places[info.run_id] = (place, 0, at_ns, info.run_id)
    return sorted(places, key=lambda run_id: places[run_id])


def _longest_rise(dates_ns: Sequence[int]) -> list[int]:
    """Places of as many dates as possible that do not fall: what the others say, a wrong clock said.

    Patience sorting: `ends` has the place of the earliest date that so many rising dates can end in.
    """
    ends: list[int] = []
    before: list[int] = []
    for place, at_ns in enumerate(dates_ns):
        length = bisect_right(ends, at_ns, key=lambda end: dates_ns[end])
        before.append(ends[length - 1] if length else -1)
        ends[length : length + 1] = [place]
    found, place = [], ends[-1] if ends else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]
