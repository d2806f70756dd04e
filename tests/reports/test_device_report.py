"""What a report says of devices with an agent, from journals of the simulated phone and Xcode's reports."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from commands.agent_import import BACKEND
from commands.agent_import import rounds_of as xcode_rounds
from device_agents.bodies import PLACES, Operation
from device_agents.job import COMPUTE_UNITS, DeviceTiming
from device_agents.modelbench import aggregate
from device_agents.simulated_phone import Fault
from device_agents.xcode_report import read
from models.spec import Case, ModelSpec
from reports import device_grids, device_text
from reports.device_export import columns, document
from reports.device_facts import facts_of
from reports.device_profile import profiles
from reports.export import case_frame
from reports.export import document as run_document
from reports.html import render
from reports.records import CaseResult
from reports.tables import build
from reports.terminal import print_table
from tests.device_agents.test_xcode_report import SECRETS, synthetic
from tests.reports import device_runs
from tests.reports.device_runs import Described, every_unit

THROTTLED = Fault("throttle", "prediction", 200)
REFUSED = "ANECCompile() FAILED: <b>no</b>"


@pytest.fixture(scope="module")
def phone_run(tmp_path_factory):
    """Two models on four compute units: one that throttles, one that falls back, one that does not load."""
    small, large = every_unit("nextvit_small"), every_unit("timm/resnet50", slower=0.6)
    small[2] = replace(small[2], faults=(THROTTLED,))
    large[0] = replace(large[0], low_power=True)
    large[3] = replace(large[3], falls_back=True)
    run = device_runs.run(tmp_path_factory.mktemp("phone"), [*small, *large])
    results = list(run.results)
    results[6] = device_runs.failed("timm/resnet50", "cpuAndNeuralEngine", REFUSED)
    return device_runs.run_of(results)


@pytest.fixture(scope="module")
def html(phone_run) -> str:
    return render(phone_run)


@pytest.fixture(scope="module")
def section(html) -> str:
    return html[html.index('<section id="devices">') : html.index('<section id="samples">')]


@pytest.fixture(scope="module")
def device(phone_run):
    (found,) = profiles(build(phone_run))
    return found


@pytest.fixture
def one(tmp_path):
    """The row of one job."""

    def one(**changes):
        return build(device_runs.run(tmp_path, [Described(**changes)])).rows[0]

    return one


def unit_of(device, model, unit):
    return next(u for m, u in device.units if m.label.startswith(model) and u.unit == unit)


def texts(grid):
    return [[cell.text for cell in line.cells] for line in grid.lines]


def terminal(run, width=120) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(run, console)
    return console.file.getvalue()


def test_a_report_without_devices_stays_as_it_was(sample):
    case = sample.block_case("block/ncb", 14, 384)
    run = sample.run_of([sample.measured(case, 0.2, 1.0, 96.0, seed=1)])
    page = render(run)
    assert 'id="devices"' not in page
    assert 'href="#devices"' not in page
    assert all("device" not in case for case in run_document(run, samples=False)["cases"])
    assert not {"memory_bytes", "modelbench_mean_ns"} & set(case_frame(run).columns)
    assert profiles(build(run)) == []


def test_the_four_compute_units_stand_side_by_side(device):
    small, large = device.models
    assert (small.label, large.label) == ("nextvit_small 224x224 fp16", "resnet50 224x224 fp16")
    assert tuple(unit.unit for unit in small.units) == COMPUTE_UNITS
    lines = texts(device_grids.units(small, (1e6, "ms")))
    assert [line[0] for line in lines] == list(COMPUTE_UNITS)
    assert lines[3][3] == "fastest"
    assert lines[1][3].startswith("2.000× [")
    assert unit_of(device, "nextvit_small", "all").fastest
    assert not unit_of(device, "nextvit_small", "cpuOnly").fastest


def test_a_unit_without_a_number_keeps_its_line_and_says_why(device, section):
    lines = texts(device_grids.units(device.models[1], (1e6, "ms")))
    assert [line[0] for line in lines] == list(COMPUTE_UNITS)
    assert lines[2][-1] == REFUSED
    assert "ANECCompile() FAILED: &lt;b&gt;no&lt;/b&gt;" in section
    assert "<b>no</b>" not in section


def test_units_that_tie_are_both_fastest(tmp_path):
    jobs = [
        Described(unit="cpuAndNeuralEngine"),
        Described(unit="all"),
        Described(unit="cpuOnly", latency_ns=9**7),
    ]
    (found,) = profiles(build(device_runs.run(tmp_path, jobs)))
    assert [unit.fastest for unit in found.models[0].units] == [False, True, True]


def test_units_that_were_measured_in_another_way_are_not_compared(tmp_path):
    longer = replace(device_runs.TIMING, warmup_ns=50_000_000)
    jobs = [Described(unit="all"), Described(unit="cpuOnly", latency_ns=9_000_000, timing=longer)]
    (found,) = profiles(build(device_runs.run(tmp_path, jobs)))
    assert [unit.versus_fastest for unit in found.models[0].units] == [None, None]


def test_a_simulated_phone_is_called_so_everywhere(phone_run, section, device):
    assert device.simulated
    assert '<span class="tag bad">simulated</span>' in section
    assert "No device and no network ran here." in section
    titles = section.count('class="panel-title"')
    assert titles == 6
    assert section.count("(simulated)</span>") == titles
    assert "simulated phone (simulated)" in terminal(phone_run)
    told = [case["device"]["simulated"] for case in run_document(phone_run)["cases"] if "device" in case]
    assert told == [True] * 7


def test_loads_are_medians_with_their_number(device):
    (line,) = [
        line for line in texts(device_grids.loads(device)) if line[0] == "nextvit_small 224x224 fp16, all"
    ]
    assert line[1:] == ["800 ms (1)", "300 ms (1)", "40.0 ms (6)", "114 MiB"]


def test_drift_and_the_thermal_state_over_the_rounds(device):
    hot = unit_of(device, "nextvit_small", "cpuAndNeuralEngine")
    assert hot.across_rounds.value == pytest.approx(1.5, rel=0.01)
    first = next(i for i, (_, after) in enumerate(hot.facts.conditions) if after.thermal_state == "serious")
    assert device_text.thermal(hot.facts) == f"nominal, serious from round {first + 1}"
    assert "throttled" in {flag.name for flag in hot.row.flags}
    cool = unit_of(device, "nextvit_small", "all")
    assert device_text.thermal(cool.facts) == "nominal"
    assert cool.across_rounds.value == pytest.approx(1.0, rel=0.01)


def test_drift_within_rounds_is_the_last_third_over_the_first(one):
    row = one()
    samples = np.array([100] * 10 + [105] * 10 + [110] * 10, dtype=np.int64)
    rounds = tuple(replace(taken, samples_ns=samples) for taken in row.measurement.rounds)
    result = replace(row.result, rounds=rounds)
    (found,) = profiles(build(device_runs.run_of([result])))
    assert device_text.change(found.models[0].units[0].within_rounds) == "+10.0 % [+10.0, +10.0]"
    short = tuple(replace(taken, samples_ns=samples[:5]) for taken in rounds)
    (found,) = profiles(build(device_runs.run_of([replace(result, rounds=short)])))
    assert found.models[0].units[0].within_rounds is None


def test_the_placement_is_shares_of_operations_and_of_estimated_cost(device):
    grid = device_grids.placement(device)
    lines = {line[0]: line[1:] for line in texts(grid)}
    assert lines["nextvit_small 224x224 fp16, cpuAndNeuralEngine"] == [
        "5", "80 %", "85 %", "–", "–", "20 %", "15 %",
    ]  # fmt: skip
    assert lines["resnet50 224x224 fp16, cpuOnly"] == ["5", "–", "–", "–", "–", "100 %", "100 %"]
    for head, _, meaning in grid.heads:
        assert "time" not in head
        assert "ms" not in head.split()
        assert ("no time" in meaning) == ("estimated cost" in head)


def test_the_placement_by_block_and_by_operation(device):
    unit = unit_of(device, "nextvit_small", "all")
    blocks, operations = device_grids.placement_details(unit)
    assert {line[0]: line[1:3] for line in texts(blocks)} == {
        "stem.0.conv": ["1", "10 %"],
        "stages.0.0": ["2", "45 %"],
        "stages.1.3": ["1", "30 %"],
        "head": ["1", "15 %"],
    }
    assert [line[:3] for line in texts(operations)][:2] == [
        ["ios16.conv", "2", "50 %"],
        ["ios16.einsum", "1", "30 %"],
    ]
    assert "const" not in {line[0] for line in texts(operations)}


def test_blocks_carry_the_name_that_the_network_gives_them(device, sample):
    unit = unit_of(device, "nextvit_small", "all")
    artifact = replace(sample.make_artifact(unit.row.case, 5.8, 31.7), modules={"stages.0.0": "NCB"})
    row = replace(unit.row, result=replace(unit.row.result, artifact=artifact))
    blocks, _ = device_grids.placement_details(replace(unit, row=row))
    assert "stages.0.0 (NCB)" in [line[0] for line in texts(blocks)]


def test_cost_is_never_called_a_time(section):
    placement = section[section.index("<h4>Placement</h4>") :]
    assert "no time" in placement
    for unit in (" ms", " µs", " ns"):
        assert unit not in placement


@pytest.mark.parametrize(
    ("costs", "unit", "expected"),
    [
        ((4, 6), "all", True),
        ((4, 6), "cpuAndNeuralEngine", True),
        ((5, 5), "all", False),
        ((4, 6), "cpuAndGPU", False),
        ((0, 10), "cpuOnly", False),
        ((-1, -1), "all", False),
    ],
)
def test_off_neural_engine_is_most_of_the_estimated_cost_elsewhere(one, costs, unit, expected):
    row = one(unit=unit)
    operations = [
        asdict(Operation(place, "op", place, (place,), cost * 10**8 if cost >= 0 else -1))
        for place, cost in zip(("neural_engine", "gpu"), costs, strict=True)
    ]
    rounds = [replace(r, environment={**r.environment, "operations": operations}) for r in row.result.rounds]
    (found,) = build(device_runs.run_of([replace(row.result, rounds=tuple(rounds))])).rows
    assert ("off_neural_engine" in {flag.name for flag in found.flags}) == expected


def test_low_power_mode_and_the_fall_back_are_flagged(device, section):
    assert "low_power_mode" in {f.name for f in unit_of(device, "resnet50", "cpuOnly").row.flags}
    assert "off_neural_engine" in {f.name for f in unit_of(device, "resnet50", "all").row.flags}
    assert "low power mode" in section
    assert "off neural engine" in section


def test_modelbench_stands_beside_the_median_and_says_when_it_is_not_whole(one):
    timing = DeviceTiming(
        rounds=20, warmup_ns=20_000_000, max_warmup_ns=200_000_000, round_ns=105_000_000, min_samples=50
    )
    row = one(timing=timing)
    (found,) = profiles(build(device_runs.run_of([row.result])))
    (unit,) = found.models[0].units
    assert unit.bench == aggregate(row.measurement.rounds)
    assert unit.bench.complete
    assert unit.bench.used == 980
    cell = device_grids.units(found.models[0], (1e6, "ms")).lines[0].cells[7]
    assert "*" not in cell.text
    short = replace(row.result, rounds=row.result.rounds[:4])
    (found,) = profiles(build(device_runs.run_of([short])))
    cell = device_grids.units(found.models[0], (1e6, "ms")).lines[0].cells[7]
    assert cell.text.endswith("*")
    assert "of 180 predictions" in cell.title


def test_samples_of_several_predictions_have_no_trimmed_mean(one):
    row = one(latency_ns=100_000)
    (found,) = profiles(build(device_runs.run_of([row.result])))
    cell = device_grids.units(found.models[0], (1e6, "ms")).lines[0].cells[7]
    assert (cell.text, cell.title) == ("–", "samples of several predictions cannot be trimmed")


def test_samples_of_several_predictions_have_no_tail(one):
    row = one(latency_ns=100_000)
    (found,) = profiles(build(device_runs.run_of([row.result])))
    (line,) = device_grids.units(found.models[0], (1e6, "ms")).lines
    (loops,) = row.summary.loop_counts
    assert loops > 1
    for cell in line.cells[5:7]:
        assert (cell.text, cell.title) == ("–", f"a sample holds {loops} inferences, so no tail is known")


def test_exports_hold_what_the_page_says(phone_run):
    told = json.loads(json.dumps(run_document(phone_run, samples=False), allow_nan=False))
    case = next(c for c in told["cases"] if c["case"]["compute_unit"] == "cpuAndNeuralEngine")["device"]
    assert case["cold_load_ns"] == [300_000_000]
    assert case["warm_load_median_ns"] == 40_000_000
    assert case["placement"][0] == {
        "place": "neural_engine", "operations": 4, "operation_share": 0.8, "estimated_cost_share": 0.85,
    }  # fmt: skip
    assert sum(group["estimated_cost_ppb"] for group in case["placement_by_block"]) == 10**9
    assert case["conditions"][-1]["after"]["thermal_state"] == "serious"
    frame = case_frame(phone_run)
    assert frame["neural_engine_estimated_cost_share"][2] == pytest.approx(0.85)
    assert frame["drift_across_rounds_ratio"][2] == pytest.approx(1.5, rel=0.01)
    assert frame["cold_load_median_ns"].isna().tolist() == [False] * 6 + [True] + [False]


def test_the_terminal_has_a_line_per_model_and_unit(phone_run):
    text = " ".join(terminal(phone_run).split())
    assert "nextvit_small 224x224 fp16, all: cold load 300 ms; warm 40.0 ms; Neural Engine 85 %" in text
    assert "thermal state nominal, serious from round" in text
    assert "of the estimated cost" in text


def xcode_result(tmp_path, number):
    folder = tmp_path / f"{number}.mlperf"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(synthetic(number)))
    report = read(folder)
    rounds = xcode_rounds(report)
    spec = ModelSpec(report.model, 224, weights="sha256:unknown")
    case = Case(spec, BACKEND, precision="fp16", device="iphone", compute_unit=report.compute_unit)
    return CaseResult(case, None, rounds, None, len(rounds), rounds[-1].protocol.id)


def test_xcodes_reports_side_by_side_without_who_owns_the_device(tmp_path):
    run = device_runs.run_of([xcode_result(tmp_path, number) for number in range(4)])
    (found,) = profiles(build(run))
    assert not found.simulated
    assert (found.name, found.driver) == ("iPhone 12 Pro Max", "iphone")
    assert tuple(unit.unit for unit in found.models[0].units) == COMPUTE_UNITS
    assert texts(device_grids.loads(found))[0][1:] == ["400 ms (1)", "850 ms (3)", "100 ms (6)", "–"]
    assert texts(device_grids.drift(found))[0][3:] == ["not told"] * 3
    page = render(run)
    assert "No device and no network ran here." not in page
    shown = page + terminal(run) + json.dumps(run_document(run))
    for secret in (*SECRETS, "somebody"):
        assert secret not in shown


def test_text_from_a_device_can_neither_mark_up_the_page_nor_steer_the_terminal(one):
    row = one()
    evil = "<img src=x onerror=alert(1)>\x1b[2J"
    operations = [asdict(Operation(evil, evil, "cpu", ("cpu",), 10**9)) | {"module": f"{evil}.0.1"}]
    rounds = tuple(
        replace(
            taken,
            protocol=replace(taken.protocol, device=f"simulated, {evil}", runtime=evil),
            environment={**taken.environment, "operations": operations},
        )
        for taken in row.result.rounds
    )
    result = replace(row.result, rounds=rounds, last_protocol_id=rounds[0].protocol.id)
    run = device_runs.run_of([result])
    page = render(run)
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3
    assert "\x1b" not in terminal(run)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(PLACES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARTS = ("compile_ns", "cold_load_ns", "warm_load_ns", "placement")


@pytest.fixture(scope="module")
def measured_row(tmp_path_factory):
    return build(device_runs.run(tmp_path_factory.mktemp("row"), [Described()])).rows[0]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_the_environment_a_report_is_made_of_it(measured_row, data):
    """A file of records may come from anywhere: what no agent writes is named and left out."""
    device = data.draw(st.dictionaries(st.sampled_from(PARTS), JSON, max_size=4))
    around = data.draw(st.dictionaries(st.sampled_from(("before", "after", "operations")), JSON, max_size=3))
    rounds = tuple(
        replace(taken, environment={**taken.environment, **around, "device": device})
        for taken in measured_row.result.rounds
    )
    facts = facts_of(rounds)
    assert all(value > 0 for value in (*facts.compile_ns, *facts.cold_load_ns, *facts.warm_load_ns))
    assert {operation.preferred for operation in facts.operations} <= set(PLACES)
    run = device_runs.run_of([replace(measured_row.result, rounds=rounds)])
    table = build(run)
    (found,) = profiles(table)
    for grid in (device_grids.loads(found), device_grids.drift(found), device_grids.placement(found)):
        assert grid is None or len(grid.lines) == 1
    json.dumps(document(table.rows[0]), allow_nan=False)
    assert columns(table.rows[0])


def test_what_no_agent_writes_is_named(measured_row):
    device = {**measured_row.result.rounds[0].environment["device"], "cold_load_ns": ["<b>", -3]}
    rounds = tuple(
        replace(taken, environment={**taken.environment, "device": device})
        for taken in measured_row.result.rounds
    )
    facts = facts_of(rounds)
    assert facts.unreadable == ("cold load",)
    assert facts.cold_load_ns == ()
    page = render(device_runs.run_of([replace(measured_row.result, rounds=rounds)]))
    assert (
        "Not shown, as no agent writes it in this form: nextvit_small 224x224 fp16, all: cold load." in page
    )
