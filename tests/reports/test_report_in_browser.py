"""The report in a real browser: nothing fetched, nothing refused, nothing overflowing, everything working."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.html import write_report

pytestmark = pytest.mark.browser

LISTEN = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective));
"""
VISIBLE = "[...document.querySelectorAll('#cases tbody tr')].filter((row) => !row.hidden)"


@pytest.fixture(scope="module")
def report_files(tmp_path_factory, blocks_run, networks_run) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {
        "blocks": write_report(blocks_run, folder / "blocks.html"),
        "networks": write_report(networks_run, folder / "networks.html"),
    }


class Visit:
    """An open page and everything that went wrong since it was opened."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.path = path
        self.page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type != "log" else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.add_init_script(LISTEN)
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 2")

    def check(self) -> None:
        assert self.troubles == []
        fetched = [url for url in self.requests if not url.startswith(("data:", "blob:"))]
        assert fetched == [self.path.as_uri()]
        assert self.page.evaluate("refused") == []


@pytest.fixture(scope="module")
def visits(chromium, report_files) -> Iterator[dict[str, Visit]]:
    """Each report is opened once, as loading it is what takes the time."""
    opened = {name: Visit(chromium, path) for name, path in report_files.items()}
    yield opened
    for made in opened.values():
        made.page.close()


@pytest.fixture
def visit(visits) -> Iterator[Any]:
    """An open report, with nothing filtered; after the test, the page must have had no trouble at all."""

    def open_report(name: str = "blocks", width: int = 1440) -> Any:
        page = visits[name].page
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="screen")
        page.evaluate("scrollTo(0, 0)")
        page.evaluate("document.getElementById('filters').reset()")
        page.evaluate("document.getElementById('filters').dispatchEvent(new Event('input'))")
        return page

    yield open_report
    for made in visits.values():
        made.check()


@pytest.mark.parametrize("name", ["blocks", "networks"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_the_page_never_scrolls_sideways(visit, fits, name, width):
    fits(visit(name, width), width)


def test_the_answer_is_on_the_first_screen(visit):
    page = visit()
    for selector in ("h1", ".facts", ".answers", "#figure-latency-0 figcaption"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] < 900, selector


def test_both_charts_are_drawn(visit):
    page = visit()
    assert page.locator("#cost-chart .scatterlayer .point").count() == 54
    page.select_option("#browse", "0")
    assert page.locator("#sample-chart .scatterlayer .point").count() == 5 * (60 + 12)
    assert page.locator("#sample-chart .scatterlayer .js-line").count() == 5


def test_pointing_at_a_case_shows_its_facts(visit):
    page = visit()
    page.locator("#cost-chart").scroll_into_view_if_needed()
    box = page.locator("#cost-chart .scatterlayer .trace").nth(0).locator(".point").nth(8).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#cost-chart .hoverlayer .hovertext")
    text = page.locator("#cost-chart .hoverlayer").text_content()
    assert "56x56x96" in text
    assert "GMACs" in text
    assert "rank" in text
    assert "5 rounds" in text or "8 rounds" in text


def test_the_other_cost_is_one_click_away(visit):
    page = visit()
    page.click("[data-cost=gmacs]")
    before = page.evaluate("[...document.getElementById('cost-chart').data[0].x]")
    page.click("[data-cost=params_m]")
    page.wait_for_function(
        "document.getElementById('cost-chart').layout.xaxis.title.text === 'parameters, M'"
    )
    assert page.evaluate("[...document.getElementById('cost-chart').data[0].x]") != before
    assert page.locator("[data-cost=params_m]").get_attribute("aria-pressed") == "true"
    assert page.locator("[data-cost=gmacs]").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.713, 0.7305, ["0.715", "0.72", "0.725", "0.73"]),
        (0.9, 3.1, ["1", "1.5", "2", "2.5", "3"]),
        (0.9, 15, ["1", "2", "3", "5", "7", "10"]),
        (0.9, 120, ["1", "2", "5", "10", "20", "50", "100"]),
        (0.009, 120, ["0.01", "0.1", "1", "10", "100"]),
    ],
)
def test_a_log_axis_has_plain_numbers_at_any_width(visit, low, high, expected):
    """Latencies that are within 2 % of each other as much as those of four powers of ten."""
    page = visit()
    ends = [math.log10(low), math.log10(high)]
    page.evaluate("(ends) => Plotly.relayout('cost-chart', {'yaxis.range': ends})", ends)
    try:
        assert page.locator("#cost-chart .ytick text").all_text_contents() == expected
    finally:
        page.evaluate("() => Plotly.relayout('cost-chart', {'yaxis.autorange': true})")
    assert page.locator("#cost-chart .ytick text").count() >= 2


def medians(page: Any) -> list[float]:
    """The medians in shown order; infinity for a case without one."""
    head = [text.strip() for text in page.locator("#cases thead th").all_text_contents()]
    cells = f"{VISIBLE}.map((row) => row.cells[{head.index('Median, ms')}].dataset.sort)"
    return [math.inf if text is None else float(text) for text in page.evaluate(cells)]


def test_the_table_sorts_by_number_with_missing_values_last(visit):
    page = visit()
    button = page.locator("#cases thead th", has_text="Median, ms").locator("button")
    button.click()
    rising = medians(page)
    assert len(rising) == 55
    assert rising == sorted(rising)
    assert rising[-1] == math.inf
    button.click()
    falling = medians(page)
    assert falling[:-1] == sorted(rising[:-1], reverse=True)
    assert falling[-1] == math.inf
    heads = page.locator("#cases thead th[aria-sort]")
    assert heads.count() == 1
    assert heads.get_attribute("aria-sort") == "descending"


def test_the_table_sorts_by_name_too(visit):
    page = visit()
    page.locator("#cases thead th", has_text="Case").locator("button").click()
    names = page.evaluate(f"{VISIBLE}.map((row) => row.cells[0].textContent)")
    assert names == sorted(names)


def test_the_table_filters_by_words_and_settings(visit):
    page = visit()
    page.fill("#find", "ncb")
    assert page.evaluate(f"{VISIBLE}.length") == 5
    assert page.text_content("#count") == "5 of 55 cases"
    page.select_option("#filters select[data-key=shape]", "14x14x384")
    assert page.evaluate(f"{VISIBLE}.length") == 2
    page.select_option("#filters select[data-key=fusion]", "unfused")
    assert page.evaluate(f"{VISIBLE}.map((row) => row.cells[0].textContent)") == ["ncb"]
    page.fill("#find", "no such thing")
    assert page.text_content("#count") == "0 of 55 cases"
    page.fill("#find", "")
    page.select_option("#filters select[data-key=shape]", "")
    page.select_option("#filters select[data-key=fusion]", "")
    assert page.evaluate(f"{VISIBLE}.length") == 55
    assert page.text_content("#count") == "55 cases"


def test_backends_can_be_filtered(visit):
    page = visit("networks")
    page.select_option("#filters select[data-key=backend]", "openvino")
    assert page.evaluate(f"{VISIBLE}.length") == 8
    page.fill("#find", "NEXTVIT small")
    assert page.evaluate(f"{VISIBLE}.length") == 1


def test_another_case_s_samples_can_be_chosen(visit):
    page = visit()
    before = page.text_content("#browse-summary")
    page.select_option("#browse", label="lsa, 56x56x96")
    page.wait_for_function("document.querySelectorAll('#sample-chart .scatterlayer .js-line').length === 8")
    after = page.text_content("#browse-summary")
    assert after != before
    assert after.startswith("9.5 ms ±4.9 %")


@pytest.mark.parametrize(
    "selector", ["#figure-latency-0", "#figure-fusion", "#figure-explorer", "#figure-browser"]
)
def test_every_kind_of_figure_downloads_as_svg(visit, selector):
    page = visit()
    with page.expect_download() as waiting:
        page.locator(f"{selector} .download").click()
    download = waiting.value
    assert download.suggested_filename.startswith("blocks-run-3-")
    root = ET.parse(download.path()).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 5


def test_a_download_button_stands_beside_every_figure(visit):
    page = visit()
    assert page.locator("figure").count() == page.locator("figure .download:visible").count() > 20


def test_print_shows_everything_and_no_controls(visit):
    page = visit()
    page.emulate_media(media="print")
    for selector in ("nav", "#filters", ".download", "#figure-browser"):
        assert not page.locator(selector).first.is_visible(), selector
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details").get_attribute("open") is not None
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details").get_attribute("open") is None
    scroll = page.locator(".scroll:has(#cases)")
    shown, whole = scroll.evaluate("(box) => [box.clientHeight, box.scrollHeight]")
    assert shown == whole


def test_the_network_is_refused_even_to_the_page_s_own_scripts(chromium, report_files):
    made = Visit(chromium, report_files["networks"])
    said = made.page.evaluate("fetch('https://example.com/').then(() => 'sent', () => 'refused')")
    assert said == "refused"
    assert made.page.evaluate("refused") == ["connect-src"]
    made.page.close()
