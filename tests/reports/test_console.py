"""What reports print stays whole: no line ends between a figure and its unit, at any width."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reports.console import PlainConsole
from reports.terminal import print_table

UNITS = ("%", "ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "M", "GMAC/s", "Gop/s", "images/s")
BEGINS_WITH_A_UNIT = re.compile(rf"^\s*(?:{'|'.join(map(re.escape, UNITS))})(?![\w/])")


def printed(*renderables, width: int, color: bool = False) -> list[str]:
    stream = io.StringIO()
    system = "standard" if color else None
    console = PlainConsole(file=stream, width=width, force_terminal=color, color_system=system)
    for renderable in renderables:
        console.print(renderable)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", range(40, 61, 4))
@pytest.mark.parametrize("name", ["blocks_run", "networks_run"])
def test_no_line_of_a_run_begins_with_a_unit(request, name, width):
    stream = io.StringIO()
    print_table(request.getfixturevalue(name), PlainConsole(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert lines
    assert [line for line in lines if BEGINS_WITH_A_UNIT.match(line)] == []


WORDS = st.lists(
    st.sampled_from(("of", "fastest", "±0.8 %", "≈ 19.1 ms", "3 min 20 s", "±? %", "(12 %)", "M"))
)


@given(WORDS, st.integers(12, 40))
def test_text_keeps_its_words_and_fits(words, width):
    text = " ".join(words)
    lines = printed(Text(text), width=width)
    assert " ".join(line.strip() for line in lines) == text
    assert all(len(line) <= width for line in lines)
    assert not any(line.lstrip().startswith(("%", "ms", "s ")) for line in lines)


def test_padding_strings_and_tables_keep_figures_whole():
    sentence = "takes 1.23 ms and 95 % of it"
    for one in (Padding(Text(sentence), (0, 0, 0, 2)), sentence):
        assert not any(BEGINS_WITH_A_UNIT.match(line) for line in printed(one, width=10))
    table = Table(box=None)
    for _ in range(2):
        table.add_column("share")
    table.add_row("99.5 %", "a long sentence that takes all the room there is in this row")
    assert any("99.5 %" in line for line in printed(table, width=24))


def test_styles_stay_where_they_were():
    text = Text.assemble("takes ", ("12 %", "bold"), " less")
    (line,) = printed(text, width=40, color=True)
    assert line == "takes \x1b[1m12 %\x1b[0m less"
