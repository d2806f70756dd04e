"""The section on scaling: sentences, heat maps, curves, the table of steps, their bounds, the terminal."""

from __future__ import annotations

import importlib
import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from models.spec import Case, ModelSpec
from reports import heat_map, sweep_protocol, sweep_section
from reports.html import render
from reports.palette import INK
from reports.sweep_findings import rate_sentence, sentences, threads_sentence
from reports.sweep_groups import grouped, sweeps
from reports.tables import build
from reports.terminal import print_table
from tests.reports import sample_run
from tests.reports import sweeps as made
from tests.reports.large_run import large_run


def run_of(results):
    return sample_run.run_of(results, suite="sweep")


def sweeps_of(run):
    table = build(run)
    return sweeps(table, grouped(table))


def section_of(results):
    return sweep_section.section(build(run_of(results)))


def measured(cases):
    return [made.result(sample_run, case) for case in cases]


def threads_of(*times_ms: float, name: str = "nextvit_small"):
    cases = [made.case_of(name, threads=2**place) for place in range(len(times_ms))]
    return [made.result(sample_run, c, ms=ms, between=0.001) for c, ms in zip(cases, times_ms, strict=True)]


def printed(run, width: int) -> str:
    stream = io.StringIO()
    print_table(run, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.fixture(scope="module")
def whole():
    return section_of(measured(made.suite_cases()))


def test_cases_are_grouped_once(monkeypatch):
    """It takes a while where there are many: sweeps and what is said of their parts share it."""
    importlib.import_module("reports.figures")  # imported later, it would keep what stands here now
    of, alike = [], sweep_protocol.alike
    monkeypatch.setattr(sweep_protocol, "alike", lambda rows: of.append(len(rows)) or alike(rows))
    cases = [made.case_of(name, batch=b) for name in ("nextvit_small", "timm/resnet50") for b in (1, 2)]
    assert section_of(measured(cases)) is not None
    assert of == [2, 2]


def test_a_run_without_a_sweep_has_no_section(networks_run):
    assert sweep_section.section(build(networks_run)) is None
    assert 'id="scaling"' not in render(networks_run)
    assert "Scaling" not in printed(networks_run, 80)


def test_the_best_rate_its_price_and_the_smaller_batch_that_does(whole):
    text = whole.paragraphs[0]
    assert text.startswith(
        "nextvit_small gives the most images per second at 224x224, fp32, with batch 8, 2 threads:"
    )
    assert "each inference taking" in text
    assert "batch 4 is the smallest within 5 % of it" in text
    assert re.search(
        r"2 threads are 1\.8\d?× \[1\.\d+, 1\.\d+\] as fast as 1 \(.*\), an efficiency of 9\d %", text
    )


def test_a_number_in_doubt_is_not_the_best():
    cases = [made.case_of(batch=b) for b in (1, 2, 4)]
    results = [*measured(cases[:2]), made.noisy(sample_run, cases[2])]
    (sweep,) = sweeps_of(run_of(results))
    assert "with batch 2" in rate_sentence(sweep)


@pytest.mark.parametrize(
    ("times_ms", "wanted"),
    [
        ((10, 5.2, 5.2), "2 threads are 1\\.92\\d*× .* an efficiency of 96 %; 4 threads over 2 gain nothing"),
        ((10, 10, 5), "2 threads over 1 gain nothing beyond the noise"),
        ((10, 5.5, 3), "4 threads are 3.3.* as fast as 1, an efficiency of 83 %\\.$"),
        ((10, 12), "2 threads over 1 gain nothing beyond the noise: 0.83"),
    ],
)
def test_where_threads_stop_paying(times_ms, wanted):
    (sweep,) = sweeps_of(run_of(threads_of(*times_ms)))
    assert re.search(wanted, threads_sentence(sweep, batched=False))


def test_numbers_in_doubt_make_no_sentence():
    cases = [made.case_of(threads=t, side=s) for t in (1, 2) for s in (160, 224)]
    one, *others = [made.noisy(sample_run, case) for case in cases]
    doubtful = section_of([one, *others])
    assert doubtful.paragraphs == ()
    assert "the most outlined" not in doubtful.drawings[0].caption
    assert "images/s" in doubtful.drawings[0].caption
    sound = section_of([one, *measured(cases[1:2]), others[1], *measured(cases[3:])])
    assert len(sound.paragraphs) == 1
    assert "2 threads are" in sound.paragraphs[0]
    assert "(224x224)" in sound.paragraphs[0]


def test_precision_and_resolution_are_told_over_all_models(whole):
    text = " ".join(whole.paragraphs)
    assert re.search(r"int8 takes 0\.4\d+× \(\w+\) to 0\.4\d+× \(\w+\) of the time of fp32", text)
    assert (
        "of the time of fp32; as timed, the top-1 is that of eager fp32 for 3 of 4 images at least;"
        " by the file alone, for 15 of 16 at least."
    ) in text
    assert re.search(
        r"From 160x160 to 288x288 latency grows .* 0\.9\d+ \(mobilenetv2_100\) to 1\.\d+ \(nextvit", text
    )


def test_a_runtime_that_lowers_an_fp32_file_is_judged_by_its_own_outputs():
    """The fp32 file agrees everywhere, to 1e-7: that is no word on what the runtime makes of it in bf16."""
    cases = [made.case_of(backend="openvino", precision=name) for name in ("fp32", "bf16")]
    results = measured(cases)
    assert results[1].artifact.parity.top1_agreement == 1
    section = section_of(results)
    (sentence,) = [text for text in section.paragraphs if "bf16 takes" in text]
    assert sentence.endswith("; as timed, the top-1 is that of eager fp32 for 4 of 4 images at least.")
    (line,) = section.grids[0].lines
    assert line.cells[5].text == "top-1 as eager fp32: 4 of 4 images; largest error 8.0e-03"
    rounds = tuple(replace(r, top1=None) for r in results[1].rounds)
    older = section_of([results[0], replace(results[1], rounds=rounds)])  # stored before it was counted
    assert "top-1" not in " ".join(older.paragraphs)
    assert older.grids[0].lines[0].cells[5].text == "largest error 8.0e-03"


def test_the_figures_of_the_suite(whole):
    titles = [drawing.title for drawing in whole.drawings]
    assert titles == [
        *(
            f"{name}: {axes}"
            for name in ("nextvit_small", "resnet50", "mobilenetv2_100")
            for axes in ("batch size and threads", "resolution and precision")
        ),
        "Latency per image over batch size",
        "Throughput over batch size",
        "Speed-up by threads",
        "Latency over resolution",
        "int8 against fp32",
    ]
    assert len({drawing.name for drawing in whole.drawings}) == len(titles)
    for drawing in whole.drawings:
        sizes = {float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", drawing.svg)}
        assert min(sizes) >= 8.0  # points: legible in print
        assert drawing.svg.startswith("<svg")
        assert len(drawing.alt) > 60


def test_a_heat_map_says_every_cell_in_words_and_figures():
    cases = [made.case_of(batch=b, threads=t) for b in (1, 2) for t in (1, 2)]
    results = [*measured(cases[:2]), made.noisy(sample_run, cases[2]), made.failed(cases[3])]
    drawing, *_ = section_of(results).drawings
    assert "batch 1, 1 thread 58" in drawing.alt
    assert "images/s" in drawing.alt
    assert "batch 2, 1 thread" in drawing.alt
    assert "flagged invalid" in drawing.alt
    assert "batch 2, 2 threads out of memory" in drawing.alt
    assert "a corner is flagged" in drawing.caption
    assert "out of" in drawing.svg
    assert "pattern" in drawing.svg  # hatched


def test_a_cell_that_nobody_planned_is_no_hole():
    cases = [made.case_of(batch=b, threads=t) for b in (1, 2) for t in (1, 2)]
    drawing, *_ = section_of(measured([*cases, made.case_of(batch=4)])).drawings
    assert "batch 4, 1 thread" in drawing.alt
    assert "batch 4, 2 threads" not in drawing.alt
    assert "pattern" not in drawing.svg


def test_the_ink_can_be_read_on_every_shade():
    shades = [heat_map.shade(place / 100) for place in range(101)]
    assert min(_contrast(shade, INK) for shade in shades) >= 4.5
    light = [_luminance(shade) for shade in shades]
    assert light == sorted(light, reverse=True)  # darker is slower, everywhere


def _luminance(shade: str) -> float:
    parts = [int(shade[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_three_axes_are_small_maps_of_one_figure():
    cases = [made.case_of(batch=b, threads=t, side=s) for b in (1, 2, 4) for t in (1, 2) for s in (160, 224)]
    drawing, *others = section_of(measured(cases)).drawings
    assert drawing.title == "nextvit_small: batch size and resolution"
    assert ">1 thread<" in drawing.svg
    assert ">2 threads<" in drawing.svg
    assert not [other for other in others if ": " in other.title]


def test_the_table_has_every_step(whole):
    (grid,) = whole.grids
    lines = [[cell.text for cell in line.cells] for line in grid.lines]
    assert len(lines) == 3 * (2 * 3 + 2 * 2 + 4 + 3)
    eight = next(line for line in lines if line[2] == "batch 8 over 1")
    assert eight[:2] == ["nextvit_small", "224x224, 1 thread, fp32"]
    assert re.fullmatch(r"6\.\d+× \[6\.\d+, 6\.\d+\]", eight[3])
    assert re.fullmatch(r"1\.2\d*× \[1\.\d+, 1\.\d+\]", eight[4])
    int8 = next(line for line in lines if line[2] == "int8 over fp32")
    assert int8[5] == "top-1 as eager fp32: 3 of 4 images; its file: 15 of 16, cosine 0.9991"
    side = next(line for line in lines if line[2] == "224x224 over 160x160")
    assert re.fullmatch(r"exponent 1\.\d\d \[1\.\d\d, 1\.\d\d\], GMACs 1\.96×", side[5])
    threads = next(line for line in lines if line[2] == "2 threads over 1")
    assert re.fullmatch(r"efficiency 9\d %", threads[5])


def test_flags_have_a_column_where_there_are_any(whole):
    assert "Flags" not in [head for head, *_ in whole.grids[0].heads]
    cases = [made.case_of(batch=b) for b in (1, 2)]
    (grid,) = section_of([*measured(cases[:1]), made.noisy(sample_run, cases[1])]).grids
    assert grid.heads[-1][0] == "Flags"
    assert "invalid" in grid.lines[0].cells[-1].text
    assert grid.lines[0].cells[3].css == "doubtful"


def test_another_protocol_is_said():
    results = [
        made.result(sample_run, made.case_of(batch=b, threads=t), options={"graph": str(b)})
        for b in (1, 2)
        for t in (1, 2)
    ]
    section = section_of(results)
    assert (
        "nextvit_small is in 2 parts that share no axis: their protocols differ in graph."
        in section.paragraphs
    )
    curves = [drawing for drawing in section.drawings if drawing.title == "Speed-up by threads"]
    assert len(curves) == 2  # no axis in common


def test_a_sweep_of_one_axis_has_one_figure_and_a_table():
    """As of `variants`: three networks at two resolutions."""
    section = section_of(measured([made.case_of(name, side=s) for name in made.MODELS for s in (224, 384)]))
    assert [drawing.title for drawing in section.drawings] == ["Latency over resolution"]
    assert len(section.grids[0].lines) == 3
    assert len(section.paragraphs) == 1


def test_rates_of_other_tools_are_not_made_up():
    results = measured([made.case_of(batch=b, threads=t) for b in (1, 2) for t in (1, 2)])
    theirs = [
        replace(r, rounds=tuple(replace(one, flags=("other_tool",)) for one in r.rounds)) for r in results
    ]
    section = section_of(theirs)
    assert [drawing.title for drawing in section.drawings] == [
        "nextvit_small: batch size and threads",
        "Latency per image over batch size",
        "Speed-up by threads",
    ]
    assert "images/s" not in section.drawings[0].alt
    assert "most images" not in " ".join(section.paragraphs)


def test_the_page_is_whole(whole):
    page = render(run_of(measured(made.suite_cases())))
    assert 'href="#scaling"' in page
    assert page.count('id="figure-scaling-') == len(whole.drawings)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_names_from_outside_stay_text():
    spec = ModelSpec.of("block/<b>x</b>", resolution=14, in_channels=384)
    cases = [Case(spec, "onnxruntime", batch_size=b) for b in (1, 2)]
    page = render(run_of([sample_run.measured(case, 0.2, 1.0, 90.0, seed=1) for case in cases]))
    assert "<b>x</b>" not in page


def test_a_large_run_is_bounded_and_says_so():
    section = sweep_section.section(build(large_run(sample_run, 400, rounds=2)))
    assert len(section.drawings) <= sweep_section.MAX_FIGURES
    assert len(section.paragraphs) < 16
    assert re.search(r"\d+ of \d+ figures are shown", section.notes[0])
    assert sum(len(drawing.svg) for drawing in section.drawings) < 400_000


def test_the_terminal_has_a_short_block_that_fits(whole):
    text = printed(run_of(measured(made.suite_cases())), 80)
    block = text[text.index("Scaling") :].splitlines()
    assert max(cell_len(line.rstrip()) for line in block) <= 80
    assert block[1:3] == ["  nextvit_small", block[2]]
    batch = r"    batch 8 over 1 at 224x224: 6\.\d+× \[6\.\d+, 6\.\d+\] the time, 1\.2\d× the images/s"
    assert re.fullmatch(batch, block[2].rstrip())
    assert block[4].startswith("    2 threads over 1 at 224x224: 1.8")
    assert re.fullmatch(r"    int8 over fp32: 0\.4.*× .* the time, top-1 3 of 4 as fp32", block[5].rstrip())
    assert len([line for line in block if line.strip()]) == 1 + 3 * 5


def test_the_terminal_tells_of_few_models_and_counts_the_rest():
    cases = [Case(ModelSpec.of(f"net_{n}"), "onnxruntime", batch_size=b) for n in range(20) for b in (1, 2)]
    text = printed(run_of([sample_run.measured(case, 1.0, 1.0, 90.0, seed=2) for case in cases]), 80)
    block = text[text.index("Scaling") :].splitlines()
    assert block[1].startswith("  net_0, batch 2 over 1: 1.0")
    assert block[17].strip() == "4 more models, and every step, in the report"


def test_sentences_name_six_models_at_most():
    cases = [Case(ModelSpec.of(f"net_{n}"), "onnxruntime", batch_size=b) for n in range(8) for b in (1, 2)]
    found = sweeps_of(run_of([sample_run.measured(case, 1.0, 1.0, 90.0, seed=2) for case in cases]))
    lines = sentences(found, batched=False)
    assert len(lines) == 7
    assert lines[-1] == "The same of 2 more sweeps is in the tables alone."
