"""How fast the report of 1,000 cases opens, and how large it is: `make benchmark`, on a quiet machine."""

from __future__ import annotations

import os
import shutil
import statistics
import time

from playwright.sync_api import sync_playwright

from commands.published import published_figures, published_points
from reports.html import write_report
from tests.reports import sample_run
from tests.reports.large_run import large_run

CASES, OPEN_SECONDS, MAX_BYTES = 1000, 3, 15e6
_DRAWN = """() => {
    const charts = [...document.querySelectorAll(".plot")];
    return charts.length >= 3 && charts.every((chart) => chart.querySelector(".main-svg"));
}"""
_FRAME = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"


def test_the_report_of_a_thousand_cases_opens_at_once(tmp_path):
    """From the address to every chart drawn and a frame shown, the median of three visits; and its size."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "this bar cannot be taken without a browser: apt-get install chromium"
    run, path = large_run(sample_run, CASES), tmp_path / "large.html"
    begun = time.monotonic()
    write_report(run, path, published=published_figures(run), points=published_points(run))
    written = time.monotonic() - begun
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        seconds = [visit(browser, path.as_uri()) for _ in range(3)]
        browser.close()
    size_bytes = path.stat().st_size
    print(
        f"\nreport of {CASES} cases: {size_bytes / 1e6:.1f} MB, written in {written:.0f} s, opened in"
        f" {statistics.median(seconds):.2f} s; load {os.getloadavg()[0]:.2f}"
    )
    assert size_bytes < MAX_BYTES
    assert statistics.median(seconds) < OPEN_SECONDS


def visit(browser, address: str) -> float:
    """Seconds until the page is drawn."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    begun = time.monotonic()
    page.goto(address)
    assert page.evaluate(
        _DRAWN
    )  # the scripts at the end of the page have drawn them before it counts as loaded
    page.evaluate(_FRAME)
    seconds = time.monotonic() - begun
    page.close()
    return seconds
