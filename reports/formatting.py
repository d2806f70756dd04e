"""The one place where numbers become text: times, sizes, ratios, intervals.

Digits follow the uncertainty: a value is written to the first digit that its interval leaves in doubt, and
never with more than four significant ones.
"""

from __future__ import annotations

import datetime
import math
import re

MISSING = "–"
_TIME_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_SIZE_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_MAX_DIGITS = 4
_MIN_DIGITS = 2


LEAST_SHARE = 1e-9  # relative: below it stands the arithmetic's own rounding


def significant(value: float, digits: int) -> str:
    """`value` with that many significant digits, in plain notation."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def digits_for(value: float, half_width: float) -> int:
    """Significant digits of `value` down to the first one in doubt by the relative `half_width`.

    1.234 +- 1 % has 3, 49.12 +- 0.05 % has 4, and 3 are shown where no uncertainty is known.
    """
    if not math.isfinite(half_width) or value == 0.0:
        return 3
    if half_width <= 0.0:
        return _MAX_DIGITS
    doubtful = math.floor(math.log10(abs(value))) - math.floor(math.log10(abs(value) * half_width)) + 1
    return min(_MAX_DIGITS, max(_MIN_DIGITS, doubtful))


def time_unit(value_ns: float) -> tuple[float, str]:
    """Nanoseconds per unit, and the unit, that a time is best written in."""
    return next((u for u in _TIME_UNITS if abs(value_ns) >= 0.9995 * u[0]), _TIME_UNITS[-1])


def duration(value_ns: float, *, half_width: float = math.nan, unit: tuple[float, str] | None = None) -> str:
    """`1.234 ms`; digits follow the relative `half_width` where it is known, the unit follows the value."""
    scale, name = unit or time_unit(value_ns)
    return f"{significant(value_ns / scale, digits_for(value_ns, half_width))} {name}"


def published(ms: float) -> str:
    """Another's latency with the digits that it was given with, one decimal at least: `13.0 ms`."""
    text = f"{ms:g}"
    return f"{text if '.' in text else f'{ms:.1f}'} ms"


def plus_minus(half_width: float) -> str:
    """`±0.8 %`; `±?` where one round gives no interval, `±0 %` where all that is left is rounding."""
    if not math.isfinite(half_width):
        return "±?"
    if half_width < LEAST_SHARE:
        return "±0 %"
    return f"±{significant(100 * half_width, 1 if half_width < 0.01 else 2)} %"


def latency(median_ns: float, half_width: float) -> str:
    """`1.23 ms ±0.8 %`."""
    return f"{duration(median_ns, half_width=half_width)} {plus_minus(half_width)}"


def latency_interval(median_ns: float, low_ns: float | None, high_ns: float | None) -> str:
    """`1.23 ms [1.22, 1.24]`, all in the unit of the median; without an interval, the median alone."""
    if low_ns is None or high_ns is None:
        return duration(median_ns)
    scale, unit = time_unit(median_ns)
    decimals = _interval_decimals(low_ns / scale, high_ns / scale)
    return (
        f"{median_ns / scale:.{decimals}f} {unit}"
        f" [{low_ns / scale:.{decimals}f}, {high_ns / scale:.{decimals}f}]"
    )


def quantile_interval(low_ns: float, high_ns: float | None) -> str:
    """`1.22 to 1.24 ms`, or `1.22 ms and more` where there is no upper end."""
    scale, unit = time_unit(low_ns)
    if high_ns is None:
        return f"{significant(low_ns / scale, 4)} {unit} and more"
    return f"{significant(low_ns / scale, 4)} to {significant(high_ns / scale, 4)} {unit}"


def ratio(value: float) -> str:
    """`1.30×`."""
    return f"{significant(value, 3)}×"


def ratio_interval(value: float, low: float | None, high: float | None) -> str:
    """`1.30× [1.28, 1.32]`; without an interval, the ratio alone."""
    if low is None or high is None:
        return ratio(value)
    decimals = _interval_decimals(low, high)
    return f"{value:.{decimals}f}× [{low:.{decimals}f}, {high:.{decimals}f}]"


def probability(p: float) -> str:
    """`0.031`; `< 0.001` for less than a report can tell apart."""
    return "< 0.001" if p < 0.001 else significant(p, 2)


def percent(share: float, *, digits: int = 2) -> str:
    return f"{significant(100 * share, digits)} %"


def size(value_bytes: int) -> str:
    """`12.3 MiB`."""
    scale, unit = next((u for u in _SIZE_UNITS if value_bytes >= u[0]), _SIZE_UNITS[-1])
    return f"{value_bytes} B" if scale == 1 else f"{significant(value_bytes / scale, 3)} {unit}"


def gmacs(value: float) -> str:
    """GMACs, without the unit: `5.81`."""
    return significant(value, 3)


def params(value_m: float) -> str:
    """Millions of parameters, with the unit: `31.8 M`."""
    return f"{significant(value_m, 3)} M"


def rate(gmacs_per_s: float) -> str:
    """`118 GMAC/s`."""
    return f"{significant(gmacs_per_s, 3)} GMAC/s"


def error(value: float) -> str:
    """A numerical error or similarity loss: `3.1e-07`; NaN stays visible."""
    return f"{value:.1e}" if math.isfinite(value) else str(value)


def moment(at_ns: int) -> str:
    """`2025-11-21 01:49 UTC`, from nanoseconds since 1970; 0 stands for a moment that nobody recorded."""
    if not at_ns:
        return "at an unknown time"
    at = datetime.datetime.fromtimestamp(at_ns / 1e9, tz=datetime.UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


def span(value_ns: float) -> str:
    """A wall time for people: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    seconds = round(value_ns / 1e9)
    if seconds < 60:
        return duration(value_ns) if value_ns < 1e9 else f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, noun: str) -> str:
    """`1 case`, `3 cases`."""
    return f"{number} {noun if number == 1 else noun + 's'}"


def listing(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def printable(text: str) -> str:
    """Another's text for a terminal: what would steer the terminal is shown escaped, as in `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str) -> str:
    """`printable`, for text of several lines: its line ends stay."""
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def slug(text: str) -> str:
    """A file name's worth of a label."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _interval_decimals(low: float, high: float) -> int:
    """Decimals that show half of the width with one digit, and two to four significant ones in all."""
    half = (high - low) / 2
    by_value = _MAX_DIGITS - 1 - math.floor(math.log10(high))
    by_width = -math.floor(math.log10(half)) if half > 0.0 else by_value
    return max(0, by_value - _MAX_DIGITS + _MIN_DIGITS, min(by_width, by_value))
