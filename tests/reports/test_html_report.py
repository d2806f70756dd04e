from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from html.parser import HTMLParser

import pytest

from models.spec import ModelSpec
from reports.files import OutputError
from reports.html import render, write_report
from reports.interactive import cost_chart
from reports.records import CaseResult, PublishedFigure, PublishedLatency
from reports.tables import build
from runners.measurement import Failure


class Page(HTMLParser):
    """What a browser sees: elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open.append(tag)
            self.scripts.append("") if tag == "script" else None

    def handle_endtag(self, tag):
        if self._open and tag == self._open[-1]:
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.text += data
        elif self._open[-1] == "script":
            self.scripts[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def blocks_html(blocks_run) -> str:
    return render(blocks_run)


@pytest.fixture(scope="module")
def page(blocks_html) -> Page:
    return Page(blocks_html)


def test_the_same_run_gives_the_same_bytes(blocks_run, blocks_html):
    assert render(blocks_run) == blocks_html


def test_nothing_is_fetched_from_anywhere(page):
    assert page.of("link") == []
    assert page.of("img") == []
    assert page.of("iframe") == []
    assert all("src" not in attributes for attributes in page.of("script"))
    targets = [attributes.get("href") for attributes in page.of("a")]
    assert targets
    assert all(target.startswith("#") for target in targets)


def test_no_element_carries_its_own_script(page):
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]


def test_the_policy_allows_exactly_the_scripts_of_the_page(page, blocks_html):
    metas = page.of("meta")
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    assert "unsafe-eval" not in policy
    script_rule = policy.split("; ")[1]
    assert "unsafe-inline" not in script_rule
    scripts = re.findall(r"<script>(.*?)</script>", blocks_html, flags=re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        assert (
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in script_rule
        )
    assert script_rule.count("sha256-") == len(scripts)
    assert metas.index(next(m for m in metas if m.get("http-equiv"))) == 1  # right after the charset


def test_the_page_is_small_enough_to_send(blocks_html):
    assert len(blocks_html.encode()) < 8_000_000


def test_the_answer_comes_first(page, blocks_run):
    text = page.text
    headline = "No single block is fastest everywhere: a tie of bottleneck, mobileone and ncb"
    places = [
        text.index(part)
        for part in (headline, "54 of 55", "The fastest of every group", "All cases of the run")
    ]
    assert places == sorted(places)


def test_every_section_is_linked_and_there(page):
    anchors = {attributes["href"][1:] for attributes in page.of("a")}
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert anchors <= ids
    assert {
        "latency",
        "results",
        "cost",
        "rate",
        "fusion",
        "samples",
        "parity",
        "conditions",
        "method",
    } <= anchors


def test_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_every_case_has_a_row_that_can_be_filtered(page, blocks_run):
    rows = [a for a in page.of("tr") if "data-search" in a]
    assert len(rows) == 55
    assert sorted({row["data-shape"] for row in rows}) == ["14x14x384", "28x28x192", "56x56x96", "7x7x768"]
    assert sum(row["data-fusion"] == "unfused" for row in rows) == 11
    assert [s["data-key"] for s in page.of("select") if "data-key" in s] == ["shape", "fusion"]


def test_figures_have_words_for_who_cannot_see_them_and_a_download(page):
    drawings = [a for a in page.of("div") if a.get("role") == "img"]
    assert len(drawings) >= 20
    assert all(len(drawing["aria-label"]) > 30 for drawing in drawings)
    files = [a["data-file"] for a in page.of("button") if a.get("class") == "download"]
    assert len(files) == len(drawings)
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"blocks-run-3-[a-z0-9-]+\.svg", file) for file in files)


def test_tables_have_captions_and_can_be_reached_by_keyboard(page):
    assert len(page.of("caption")) == len(page.of("table"))
    regions = [a for a in page.of("div") if a.get("class") == "scroll"]
    assert len(regions) == len(page.of("table"))
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_failures_and_flags_are_told_with_their_advice(page):
    assert "attention over 3136 tokens needs a 3136 x 3136 matrix" in page.text
    assert "Give the process more memory" in page.text
    assert "failed: out of memory" in page.text
    assert "Look at the distribution for two modes or drift" in page.text
    assert "block/mbconv 28x28x192 fp32 onnxruntime" in page.text


def test_the_wall_time_is_accounted_for(page):
    assert re.search(r"The harness took [\d.]+ % of the wall time", page.text)


def test_conditions_and_the_way_to_reproduce_are_there(page):
    for text in (
        "Example Server CPU @ 2.60GHz",
        "performance",
        "python bench.py --suite blocks",
        "0123456789ab",
    ):
        assert text in page.text


def test_the_charts_data_is_valid_for_plotly(blocks_run):
    import plotly.graph_objects as go

    chart = cost_chart(build(blocks_run))
    figure = go.Figure(data=chart["data"], layout=chart["layout"])  # raises for an unknown property
    assert sum(len(trace.x) for trace in figure.data) == 54
    for axis in chart["axes"].values():
        assert [len(xs) for xs in axis["xs"]] == [len(trace["x"]) for trace in chart["data"]]


def test_the_chart_shows_one_protocol_until_the_reader_asks_for_others(sample, blocks_run):
    cases = [
        dataclasses.replace(sample.block_case(f"block/{name}", 14, 384), backend=backend)
        for name, backend in (("ncb", "torch"), ("ncb", "onnxruntime"), ("ntb", "onnxruntime"))
    ]
    run = sample.run_of([sample.measured(case, 0.2, 1.0, 100.0, seed=1) for case in cases])
    traces = cost_chart(build(run))["data"]
    assert {trace["name"]: trace["visible"] for trace in traces} == {
        "14x14x384, torch": "legendonly",
        "14x14x384, onnxruntime": True,
    }
    asked_for = "or to show one of another protocol"
    assert asked_for in render(run)
    assert asked_for not in render(blocks_run)


def test_embedded_data_is_json_and_holds_every_case(page):
    data = json.loads(page.scripts[0])
    assert len(data["samples"]["cases"]) == 54
    assert data["samples"]["cases"][0]["rounds"][0]["name"] == "round 1"


NASTY = "<script>alert(1)</script>\"'&<!--"


def test_text_from_outside_stays_text(sample):
    spec = ModelSpec.of(f"block/{NASTY}", resolution=14, in_channels=384)
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384), model=spec)
    others = [
        sample.measured(sample.block_case(f"block/{n}", 14, 384), 0.2, 1.0, 80.0, seed=2)
        for n in ("ntb", "lsa")
    ]
    good = sample.measured(case, 0.2, 1.0, 90.0, seed=1)
    failed = CaseResult(
        dataclasses.replace(case, precision="int8"), None, (), Failure("load", NASTY, NASTY), 1
    )
    run = sample.run_of([good, failed, *others], suite=NASTY, command=NASTY)
    environment = {NASTY: NASTY, "cpu": {"model": NASTY}}
    run = dataclasses.replace(run, info=dataclasses.replace(run.info, environment=environment))
    text = render(run)
    assert "<script>alert" not in text
    page = Page(text)
    assert len(page.scripts) == 4
    assert page.text.count("<script>alert(1)</script>") > 5
    json.loads(page.scripts[0])


def test_a_simulated_run_says_so_above_everything(sample):
    case = dataclasses.replace(sample.block_case("block/ncb", 14, 384), backend="simulated")
    page = Page(render(sample.run_of([sample.measured(case, 0.2, 1.0, 90.0, seed=1)])))
    assert "All results on this page come from a simulated backend" in page.text
    assert page.text.index("Simulated.") < page.text.index("takes 2.2")
    assert "simulated" not in Page(render(sample.run_of([sample.measured(
        sample.block_case("block/ncb", 14, 384), 0.2, 1.0, 90.0, seed=1)]))).text.lower()  # fmt: skip


def test_nothing_measured_is_a_page_too(sample):
    failure = Failure("unavailable", "no NVIDIA GPU is here", "Run it where one is.", built=True)
    case = sample.block_case("block/ncb", 14, 384)
    artifact = sample.make_artifact(case, 0.2, 1.0)
    page = Page(render(sample.run_of([CaseResult(case, artifact, (), failure, 1)])))
    assert "Nothing was timed: 1 case built, and no NVIDIA GPU is here." in page.text
    assert "built, not timed" in page.text
    assert "3 steps of 1 artifact checked" in page.text


def test_an_empty_plan_is_a_page_too(sample):
    assert "Nothing was measured yet: 0 cases planned." in Page(render(sample.run_of([]))).text


def test_one_case_with_one_round_and_one_sample(sample):
    import numpy as np

    case = sample.block_case("block/ncb", 14, 384)
    taken = sample.make_round(
        2e6, samples_ns=np.array([2_000_000]), warmup_ns=np.array([], np.int64), loop_count=1
    )
    page = Page(render(sample.run_of([CaseResult(case, None, (taken,), None, 1)])))
    assert "ncb takes 2.00 ms" in page.text
    assert "±?" in page.text
    assert "No artifact of this run has a parity check." in page.text


def test_a_missing_percentile_says_that_a_sample_holds_several_inferences(sample):
    results = []
    for name, loops in (("block/ncb", 1), ("block/ntb", 7)):
        rounds = tuple(sample.make_round(2e6, index=i, count=400, loop_count=loops) for i in range(3))
        results.append(CaseResult(sample.block_case(name, 14, 384), None, rounds, None, 3))
    told = 'title="a sample holds 7 inferences, so no tail is known"'
    assert render(sample.run_of(results)).count(told) == 2
    assert told not in render(sample.run_of(results[:1]))


def test_a_run_without_sessions_or_known_environment(sample, networks_run):
    info = dataclasses.replace(networks_run.info, environment={}, finished_at_ns=None)
    page = Page(render(dataclasses.replace(networks_run, info=info, sessions=())))
    assert "No session of this run has recorded its wall time." in page.text
    assert "not finished" in page.text


def test_failed_parity_opens_the_ledger(networks_run, blocks_html):
    text = render(networks_run)
    assert "<details open>" in text
    assert "2 beyond tolerance" in text
    assert "<details>" in blocks_html


def test_protocols_are_ranked_apart(networks_run):
    page = Page(render(networks_run))
    assert "224x224, onnxruntime" in page.text
    assert "Results of different protocols are never ranked together." in page.text
    assert page.text.count("Protocol ") >= 2


def test_published_figures_stand_beside_ours(networks_run):
    latency = PublishedLatency(7.7, "TensorRT", "T4, fp16, batch 8", "the paper's table 4")
    published = [
        PublishedFigure("nextvit_small", 224, "the paper's table 4", 82.5, (latency,)),
        PublishedFigure("nextvit_base", 224, "the paper's table 4", 83.2),
        PublishedFigure("unknown_model", 224, "nowhere", 99.9),
    ]
    page = Page(render(networks_run, published=published))
    assert "7.7 ms (T4, fp16, batch 8)" in page.text
    assert "the paper's table 4" in page.text
    assert "99.9" not in page.text
    assert "accuracy" in {attributes.get("id") for _, attributes in page.elements}
    assert "accuracy" not in {a.get("id") for _, a in Page(render(networks_run)).elements}


def test_the_file_is_whole_or_not_there(tmp_path, sample, blocks_run, monkeypatch):
    path = tmp_path / "deep" / "folder" / "report.html"
    assert write_report(sample.run_of([]), path) == path
    before = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", None)
        patch.setattr("pathlib.Path.replace", _no_space)
        with pytest.raises(OutputError, match=r"cannot write .*report\.html: No space left"):
            write_report(blocks_run, path)
    assert path.read_text() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _no_space(self, target):
    raise OSError(28, "No space left on device")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_in_the_way_is_a_clear_error(tmp_path, sample):
    with pytest.raises(OutputError, match="cannot write"):
        write_report(sample.run_of([]), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        write_report(sample.run_of([]), tmp_path / "file" / "report.html")


def test_one_case_has_nothing_to_predict(sample):
    """A single mark on two axes tells nothing of FLOPs."""
    cases = [sample.block_case(f"block/{name}", 14, 384) for name in ("ncb", "ntb")]
    results = [sample.measured(case, 0.2, 1.0, 90.0, seed=place) for place, case in enumerate(cases)]
    alone, both = (render(sample.run_of(results[:number])) for number in (1, 2))
    assert 'id="cost"' not in alone
    assert cost_chart(build(sample.run_of(results[:1]))) is None
    assert ">1 case</output>" in alone
    assert 'id="cost"' in both
    assert ">2 cases</output>" in both
