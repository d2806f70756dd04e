"""Words for what a device told: conditions over the rounds, drift, placement. Shared by page and terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from device_agents.bodies import THERMAL_STATES, Conditions
from device_agents.placement import PlacementShare
from reports import formatting as fmt
from reports.device_facts import DeviceFacts, cost_share, operation_share
from reports.statistics import Ratio

UNKNOWN = "unknown"
NOT_TOLD = "not told"
PLACES = {"neural_engine": "Neural Engine", "gpu": "GPU", "cpu": "CPU", UNKNOWN: NOT_TOLD}
_SEVERITY = {state: place for place, state in enumerate((UNKNOWN, *THERMAL_STATES[:-1]))}


def change(ratio: Ratio | None) -> str:
    """`+2.1 % [+1.8, +2.4]`: how much longer, from a ratio of times."""
    if ratio is None:
        return fmt.MISSING
    value = f"{_signed(ratio.value)} %"
    if ratio.low is None or ratio.high is None or not math.isfinite(ratio.high):
        return value
    return f"{value} [{_signed(ratio.low)}, {_signed(ratio.high)}]"


def thermal(facts: DeviceFacts) -> str:
    """The worse reading of each round, in order: `nominal`, or `nominal, serious from round 3`."""
    return _course(facts, lambda pair: max((c.thermal_state for c in pair), key=_SEVERITY.__getitem__))


def low_power(facts: DeviceFacts) -> str:
    """`off`, or `off, on from round 3`."""
    if thermal(facts) == NOT_TOLD and battery(facts) == NOT_TOLD:
        return NOT_TOLD  # an agent that reads neither has no phone's settings to read
    return _course(facts, lambda pair: "on" if any(c.low_power_mode for c in pair) else "off")


def battery(facts: DeviceFacts) -> str:
    """`80 % to 78 %, charging`, from before the first round to after the last."""
    levels = [c.battery_permille for pair in facts.conditions for c in pair if c.battery_permille >= 0]
    if not levels:
        return NOT_TOLD
    first, last = (f"{level / 10:g} %" for level in (levels[0], levels[-1]))
    plugged = [c.charging for pair in facts.conditions for c in pair]
    words = "charging" if all(plugged) else "charging at times" if any(plugged) else "not charging"
    return f"{first if first == last else f'{first} to {last}'}, {words}"


def times(values: Sequence[int], median_ns: float | None) -> str:
    """`41.0 ms (5)`: the median and how many there are."""
    return f"{fmt.duration(median_ns)} ({len(values)})" if median_ns else fmt.MISSING


def raw(values: Sequence[int], most: int = 20) -> str:
    """Every value in order, for who wants more than the median."""
    shown = ", ".join(fmt.duration(value) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def placement(shares: Sequence[PlacementShare]) -> str:
    """`Neural Engine 85 %, CPU 15 % of the estimated cost`; of operations where no cost is told."""
    share_of, of = cost_share, "the estimated cost"
    if all(cost_share(shares, share.place) is None for share in shares):
        share_of, of = operation_share, "operations"
    parts = [f"{PLACES[s.place]} {percent(share_of(shares, s.place))}" for s in shares]
    return f"{', '.join(parts)} of {of}" if parts else ""


def percent(share: float | None) -> str:
    """Whole percent; what is not nothing is never written as 0, nor what is not all as 100."""
    if share is None:
        return fmt.MISSING
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 < share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"


def _signed(ratio: float) -> str:
    """Percent above 1; what rounds to nothing has no sign."""
    text = f"{100 * (ratio - 1):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _course(facts: DeviceFacts, read: Callable[[tuple[Conditions, Conditions]], str]) -> str:
    """A reading over the rounds, told where it changes."""
    states = [read(pair) for pair in facts.conditions]
    if set(states) <= {UNKNOWN}:
        return NOT_TOLD
    parts, place = [], 0
    for state, group in groupby(states):
        parts.append(f"{state} from round {place + 1}" if place else state)
        place += len(list(group))
    return ", ".join(parts)
