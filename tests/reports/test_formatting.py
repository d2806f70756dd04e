from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import formatting as fmt


@pytest.mark.parametrize(
    ("value_ns", "half_width", "text"),
    [
        (1.2345e6, 0.008, "1.234 ms ±0.8 %"),
        (49.123e6, 0.0005, "49.12 ms ±0.05 %"),
        (123.456e6, 0.03, "123 ms ±3.0 %"),
        (999.96e3, 0.01, "1.00 ms ±1.0 %"),
        (512.0, 0.2, "510 ns ±20 %"),
        (12.3e9, math.inf, "12.3 s ±?"),
        (45_600.0, 0.002, "45.60 µs ±0.2 %"),
    ],
)
def test_digits_follow_the_interval(value_ns, half_width, text):
    assert fmt.latency(value_ns, half_width) == text


def test_an_interval_is_written_in_the_unit_and_digits_of_its_value():
    assert fmt.latency_interval(1.9e6, 1.88e6, 1.92e6) == "1.90 ms [1.88, 1.92]"
    assert fmt.latency_interval(1.0e6, 0.98e6, 1.02e6) == "1.00 ms [0.98, 1.02]"
    assert fmt.latency_interval(1.9e6, None, None) == "1.90 ms"
    assert fmt.latency_interval(5e6, 5e6, 5e6) == "5.000 ms [5.000, 5.000]"


def test_ratios():
    assert fmt.ratio_interval(1.3, 1.2, 1.4) == "1.3× [1.2, 1.4]"
    assert fmt.ratio_interval(1.304, 1.28, 1.32) == "1.30× [1.28, 1.32]"
    assert fmt.ratio_interval(1.304, None, None) == "1.30×"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (132_000_000, "126 MiB"), (5 << 30, "5.00 GiB")],
)
def test_sizes(size_bytes, text):
    assert fmt.size(size_bytes) == text


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (4.2e8, "420 ms"),
        (59e9, "59 s"),
        (60e9, "1 min 00 s"),
        (3599e9, "59 min 59 s"),
        (7500e9, "2 h 05 min"),
        (0, "0 ns"),
    ],
)
def test_wall_times(value_ns, text):
    assert fmt.span(value_ns) == text


def test_other_units():
    assert fmt.gmacs(5.8049) == "5.80"
    assert fmt.params(31.758) == "31.8 M"
    assert fmt.rate(118.04) == "118 GMAC/s"
    assert fmt.percent(0.0123) == "1.2 %"
    assert fmt.error(6.21e-7) == "6.2e-07"
    assert fmt.error(math.nan) == "nan"
    assert fmt.moment(1_700_000_000_000_000_000) == "2023-11-14 22:13 UTC"
    assert fmt.slug("block/ncb 14x14x384, fp32") == "block-ncb-14x14x384-fp32"


@pytest.mark.parametrize(
    ("items", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listings(items, text):
    assert fmt.listing(items) == text


def test_counts():
    assert [fmt.count(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]


@given(st.floats(1.0, 1e12), st.floats(1e-5, 0.5))
def test_a_written_latency_is_the_value_within_its_interval(value_ns, half_width):
    number, unit, _ = fmt.latency(value_ns, half_width).split(" ", 2)
    scale = {"ns": 1.0, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert abs(float(number) * scale / value_ns - 1) <= max(half_width, 0.0006)
    assert 1 <= len(number.replace(".", "").lstrip("0")) <= 4 or unit == "s"


@given(st.floats(1e-12, 1e12), st.integers(1, 6))
def test_significant_digits_are_kept_and_plain(value, digits):
    text = fmt.significant(value, digits)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) * 1.0001)


@pytest.mark.parametrize(
    ("half_width", "text"),
    [(0.0123, "±1.2 %"), (0.004, "±0.4 %"), (1e-17, "±0 %"), (0.0, "±0 %"), (float("inf"), "±?")],
)
def test_half_widths_of_an_interval(half_width, text):
    assert fmt.plus_minus(half_width) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.22e6, 1.24e6, "1.220 to 1.240 ms"),
        (9.5e5, 1.2e6, "950.0 to 1200 µs"),
        (1.22e6, None, "1.220 ms and more"),
    ],
)
def test_intervals_of_tails(low, high, text):
    assert fmt.quantile_interval(low, high) == text
