"""What fusion and each form save: pairs, verdicts, sentences, tables, figures, the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from reports import export, savings_section
from reports.html import render
from reports.savings import form_savings, fusion_savings
from reports.tables import build, fused_facets
from reports.terminal import print_table
from tests.reports import left_out as made
from tests.reports import sample_run as sample

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def forms_table():
    return build(made.forms_run(sample))


@pytest.fixture(scope="module")
def section(forms_table):
    return savings_section.forms_section(forms_table)


def table_of(*results):
    return build(sample.run_of(list(results), suite="forms"))


def pair(with_ms: float, without_ms: float, **options):
    name = "efficientmod_xxs"
    return table_of(
        made.result_of(sample, name, ms=with_ms, forms={"channels first": 1}, **options),
        made.result_of(sample, name, ms=without_ms, left_out="channels first", **options),
    )


def printed(run, width: int) -> str:
    stream = io.StringIO()
    print_table(run, Console(file=stream, width=width))
    return stream.getvalue()


def test_fused_pairs_are_matched_by_everything_else(blocks_run, networks_run):
    found = fusion_savings(build(blocks_run))
    assert len(found) == 11
    for saving in found:
        fused, unfused = saving.row, saving.without
        assert dataclasses.replace(unfused.case, fused=True) == fused.case
        assert saving.ratio.value == pytest.approx(unfused.summary.median_ns / fused.summary.median_ns)
    values = [saving.ratio.value for saving in found]
    assert values == sorted(values, reverse=True)
    assert fusion_savings(build(networks_run)) == []
    assert form_savings(build(blocks_run)) == []


def test_fusion_is_summed_up(blocks_run):
    assert savings_section.sentences(fusion_savings(build(blocks_run))) == [
        "Fusion makes 11 of 11 cases faster beyond the noise, efficientformer4d most: 1.32× [1.31, 1.33]."
    ]


def test_folded_layers_and_the_parity_of_fusion_are_told(blocks_run):
    (saving, *_) = fusion_savings(build(blocks_run))
    assert saving.replaced == 4
    assert saving.parity is saving.row.result.artifact.steps[0].parity


def test_forms_are_paired_form_by_form_in_plan_order(forms_table):
    found = form_savings(forms_table)
    assert [(saving.names, saving.label) for saving in found] == [
        (("constant biases",), "efficientformer_l1"),
        (("constant biases",), "swin_tiny_patch4_window7_224"),
        (("one classifier",), "efficientformer_l1"),
        (("five axes",), "swin_tiny_patch4_window7_224"),
        (("channels first",), "efficientmod_xxs"),
    ]
    for saving in found:
        assert saving.ratio.value == pytest.approx(
            saving.without.summary.median_ns / saving.row.summary.median_ns
        )


def test_every_verdict_has_its_word(forms_table):
    words = {(s.what, s.label): s.verdict for s in form_savings(forms_table)}
    swin = "swin_tiny_patch4_window7_224"
    assert words == {
        ("constant biases", "efficientformer_l1"): "saves time",
        ("constant biases", swin): "no difference",
        ("one classifier", "efficientformer_l1"): "no difference",
        ("five axes", swin): "costs time",
        ("channels first", "efficientmod_xxs"): "saves time",
    }


def test_an_undecided_one_says_what_would_settle_it():
    (saving,) = form_savings(pair(10.0, 10.12, between=0.02, count=5))
    assert saving.verdict == "undecided"
    assert saving.advice.endswith("rounds would settle it")
    (text,) = savings_section.sentences([saving])
    assert text == (
        "The form channels first makes 0 of 1 case faster beyond the noise; efficientmod_xxs undecided. The"
        " operators of efficientmod_xxs are the same in both files."
    )
    (single,) = form_savings(pair(10.0, 12.0, count=1))
    assert (single.verdict, single.advice) == ("undecided", "one round gives no interval")


def test_sentences_name_who_gains_who_loses_and_which_files_are_alike(section):
    biases, classifier, axes, channels = section.paragraphs
    assert re.fullmatch(
        r"The form constant biases makes 1 of 2 cases faster beyond the noise, efficientformer_l1 most:"
        r" 1\.0\d+× \[1\.0\d+, 1\.0\d+\]; swin_tiny_patch4_window7_224 changed by less than 1 %\."
        r" The operators of swin_tiny_patch4_window7_224 are the same in both files\.",
        biases,
    )
    assert "0 of 1 case faster beyond the noise; efficientformer_l1 changed" in classifier
    assert re.search(r"; swin_tiny_patch4_window7_224 became slower: 0\.97\d× \[0\.9.*\]\.$", axes)
    assert channels.startswith("The form channels first makes 1 of 1 case faster")


def test_the_table_has_times_verdict_modules_operators_and_parity(section):
    (grid,) = section.grids
    heads = [text for text, _, _ in grid.heads]
    assert heads[:3] == ["Case", "Form", "With, ms"]
    lines = [dict(zip(heads, (cell.text for cell in line.cells), strict=True)) for line in grid.lines]
    last = lines[-1]
    assert (last["Form"], last["Verdict"], last["Replaced"]) == ("channels first", "saves time", "1")
    assert (last["Operators"], last["Parity"], last["Rounds"]) == ("388 → 301", "2.5e-07", "12")
    assert re.fullmatch(r"1\.2\d+× \[1\.2\d+, 1\.2\d+\]", last["Without / with [95 %]"])
    assert lines[1]["Operators"] == "812, the same"


def test_a_form_that_cannot_be_left_out_is_named(section):
    assert section.notes[0].startswith("twins_svt_small without five axes failed (conversion)")


def test_there_is_a_panel_per_form_on_one_axis(section):
    assert [drawing.title for drawing in section.drawings] == [
        "Constant biases", "One classifier", "Five axes", "Channels first",
    ]  # fmt: skip
    assert len({drawing.name for drawing in section.drawings}) == 4
    ticks = []
    for drawing in section.drawings:
        texts = ["".join(node.itertext()) for node in ET.fromstring(drawing.svg).iter(f"{SVG}text")]
        assert "time without / with" in texts
        ticks.append([text for text in texts if re.fullmatch(r"[01]\.\d+", text)])
    assert all(each == ticks[0] for each in ticks)


def test_several_forms_left_out_together_are_one_line():
    forms = {"constant biases": 12, "five axes": 11}
    both = made.result_of(sample, "swin", ms=63.0, left_out="five axes+constant biases")
    (saving,) = form_savings(table_of(made.result_of(sample, "swin", ms=61.0, forms=forms), both))
    assert saving.what == "five axes and constant biases"
    assert saving.replaced == 23


def test_counts_that_nobody_took_are_missing_and_no_zero():
    plain = made.result_of(sample, "swin", ms=61.0)
    (saving,) = form_savings(table_of(plain, made.result_of(sample, "swin", ms=63.0, left_out="five axes")))
    assert saving.replaced is None
    assert saving.parity is None
    bare = dataclasses.replace(plain, artifact=None)
    (saving,) = form_savings(table_of(bare, made.result_of(sample, "swin", ms=63.0, left_out="five axes")))
    assert (saving.replaced, saving.operators, saving.same_operators) == (None, None, False)
    (line,) = savings_section.grid([saving], (1e6, "ms"), caption="x").lines
    assert [cell.text for cell in line.cells].count("–") == 3


def test_other_settings_are_told_where_they_differ():
    results = []
    for batch in (1, 4):
        for ms, left in ((10.0, ""), (12.0, "channels first")):
            one = made.result_of(sample, "efficientmod_xxs", ms=ms * batch, left_out=left)
            results.append(dataclasses.replace(one, case=dataclasses.replace(one.case, batch_size=batch)))
    assert [s.label for s in form_savings(table_of(*results))] == [
        "efficientmod_xxs batch 1", "efficientmod_xxs batch 4",
    ]  # fmt: skip


def test_protocols_are_not_mixed():
    plain = made.result_of(sample, "swin", ms=61.0)
    without = made.result_of(sample, "swin", ms=63.0, left_out="five axes")
    newer = dataclasses.replace(sample.protocol(), runtime="onnxruntime 1.32.0")
    rounds = tuple(dataclasses.replace(r, protocol=newer) for r in without.rounds)
    other = dataclasses.replace(without, rounds=rounds, last_protocol_id=newer.id)
    assert form_savings(table_of(plain, other)) == []


def test_cases_without_a_form_answer_no_other_question(forms_table):
    facets = fused_facets(forms_table)
    assert all(not row.case.build for facet in facets for row in facet.rows)
    assert any("without_form=five-axes" in facet.title for facet in forms_table.facets)


def test_the_page_has_both_sections_from_one_template(blocks_run):
    page = render(made.forms_run(sample))
    assert "<h2>What each form saves</h2>" in page
    assert 'href="#forms"' in page
    assert "left out: five axes" in page
    assert "swin_tiny_patch4_window7_224 224 fp32 without constant biases: folded" in page
    assert 'id="fusion"' not in page
    fused = render(blocks_run)
    assert "<h2>What fusion gains</h2>" in fused
    assert "Fused against unfused" in fused
    assert 'id="forms"' not in fused


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_has_a_line_per_form_and_case(width):
    text = printed(made.forms_run(sample), width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.split())
    assert "Forms time without over time with it, paired by round" in flat
    found = re.search(r"channels first, efficientmod_xxs: (1\.2\d+)× \[.*?\], saves time; 1 module,", flat)
    assert found
    assert "operators 388 → 301, parity 2.5e-07" in flat


def test_the_terminal_sums_fusion_up(blocks_run, networks_run):
    assert "Fusion makes 11 of 11 cases faster" in printed(blocks_run, 120)
    assert "Forms" not in printed(networks_run, 120)


def test_json_has_every_saving_with_the_cases_that_it_stands_on(forms_table, blocks_run, networks_run):
    def told(run):
        text = json.dumps(export.document(run, samples=False), allow_nan=False)
        return json.loads(text).get("savings")

    found = told(made.forms_run(sample))
    assert [each["steps"] for each in found] == [list(each.names) for each in form_savings(forms_table)]
    ids = {row.case.id for row in forms_table.rows}
    for each, saving in zip(found, form_savings(forms_table), strict=True):
        assert {each["case_id"], each["without_case_id"]} <= ids
        assert each["comparison"]["ratio"]["value"] == pytest.approx(saving.ratio.value)
        assert each["replaced"] == saving.replaced
        assert each["parity"]["max_relative"] == saving.parity.max_relative
    assert [each["comparison"]["verdict"] for each in found] == [
        *("slower", "equivalent", "equivalent", "faster", "slower")
    ]
    assert {tuple(each["steps"]) for each in told(blocks_run)} == {("fusion",)}
    assert told(networks_run) is None
