"""`agent`: the whole path from a file to the store, on this machine and on the phone in software."""

from __future__ import annotations

import json

import pytest

from bench import main
from tests.device_agents.test_xcode_report import SECRETS, synthetic

onnx = pytest.importorskip("onnx")
# coremltools leaves a temporary folder to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WANTED = {"case", "median_ns", "placement", "failure", "cold_load_ns", "modelbench_mean_ns", "drift"}


@pytest.fixture
def model(tmp_path):
    """A small ONNX file: one convolution and a ReLU, weights inside."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8, 30, 30])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "small.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


@pytest.fixture
def agent(tmp_path, capsys):
    def agent(*arguments):
        places = ["--store", str(tmp_path / "s.db"), "--outbox", str(tmp_path / "box")]
        code = main(["agent", *map(str, arguments), *places])
        return code, capsys.readouterr()

    return agent


QUICK = ("--rounds", "2", "--round-seconds", "0.05", "--json")


def test_a_model_is_measured_on_this_machine(agent, model, tmp_path, capsys):
    code, told = agent("run", model, "--driver", "local", *QUICK)
    value = json.loads(told.out)
    (case,) = value["cases"]
    assert code == value["exit_code"] == 0
    assert "round 2 of 2: 1/2 done, about" in told.err
    assert case.keys() >= WANTED
    assert case["rounds"] == 2
    assert case["median_ns"] > 0
    assert len(case["cold_load_ns"]) == 1
    assert main(["report", "--run", str(value["run_id"]), "--store", str(tmp_path / "s.db"), "-o",
                 str(tmp_path / "r.html")]) == 0  # fmt: skip
    assert "small" in capsys.readouterr().out


def test_the_same_command_again_adds_nothing(agent, model):
    first = json.loads(agent("run", model, "--driver", "local", *QUICK)[1].out)
    code, told = agent("run", model, "--driver", "local", *QUICK)
    again = json.loads(told.out)
    assert code == 0
    assert again == first
    assert "round" not in told.err


def test_what_was_taken_is_deleted_on_the_device_by_the_next_job(agent, model, tmp_path):
    first = json.loads(agent("run", model, "--driver", "local", *QUICK)[1].out)["cases"][0]["job_id"]
    mailbox = tmp_path / "box" / "this-machine-local"
    assert list(mailbox.glob(f"{first}.*"))
    agent("run", model, "--driver", "local", "--rounds", "1", "--round-seconds", "0.05")
    assert not list(mailbox.glob(f"{first}.*"))
    assert (tmp_path / "box" / first / "journal.jsonl").is_file()


def test_an_outbox_is_run_by_serve_and_an_unknown_folder_is_refused(agent, model, tmp_path):
    agent("run", model, "--driver", "local", *QUICK)
    code, told = agent("serve", tmp_path / "box", "--driver", "local", "--once", "--json")
    assert code == 0
    assert json.loads(told.out)["cases"][0]["rounds"] == 2
    code, told = agent("run", tmp_path / "nothing", "--driver", "local")
    assert code == 2
    assert "is not there" in told.err


def test_without_a_phone_the_job_waits_and_says_what_is_missing(agent, model, tmp_path, monkeypatch):
    pytest.importorskip("coremltools")
    monkeypatch.setenv("PATH", str(tmp_path))
    package = small_package(tmp_path)
    code, told = agent("run", package, "--compute-unit", "all,cpuOnly", *QUICK)
    value = json.loads(told.out)
    assert code == 3
    assert [case["compute_unit"] for case in value["cases"]] == ["all", "cpuOnly"]
    for case in value["cases"]:
        assert case["failure"]["kind"] == "unavailable"
        assert case["failure"]["built"]
        assert case["failure"]["detail"]["problem"] == "tool_missing"
        assert (tmp_path / "box" / case["job_id"] / "job.json").is_file()


def test_a_package_on_the_phone_in_software_is_marked_as_such(agent, tmp_path, capsys):
    pytest.importorskip("coremltools")
    code, told = agent("run", small_package(tmp_path), "--driver", "simulated", *QUICK)
    (case,) = json.loads(told.out)["cases"]
    assert code == 0
    assert case["placement"][0]["place"] == "neural_engine"
    main(["report", "--store", str(tmp_path / "s.db"), "-o", str(tmp_path / "r.html")])
    assert "SIMULATED" in capsys.readouterr().out


def small_package(folder):
    """One ReLU, made without torch."""
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 3, 8, 8), dtype=types.fp32)])
    def program(x):
        return Builder.relu(x=x)

    path = folder / "tiny.mlpackage"
    if not path.exists():
        coremltools.convert(
            program, convert_to="mlprogram", minimum_deployment_target=coremltools.target.iOS16
        ).save(str(path))
    return path


def test_an_xcode_report_becomes_a_run_without_secrets(agent, tmp_path):
    folder = tmp_path / "X.mlperf"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(synthetic()))
    code, told = agent("import", folder, "--model", "nextvit_small", "--json")
    assert code == 0
    assert json.loads(told.out)["imported"][0]["added"]
    assert not json.loads(agent("import", folder, "--model", "nextvit_small", "--json")[1].out)["imported"][
        0
    ]["added"]
    stored = (
        (tmp_path / "s.db").read_bytes() + (tmp_path / "s.db-wal").read_bytes()
        if (tmp_path / "s.db-wal").exists()
        else (tmp_path / "s.db").read_bytes()
    )
    for secret in SECRETS:
        assert secret.encode() not in stored


def test_doctor_and_devices_say_what_is_missing(agent, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, told = agent("doctor", "--json")
    drivers = {row["driver"]: row for row in json.loads(told.out)["drivers"]}
    assert code == 0
    assert "pymobiledevice3" in drivers["iphone"]["missing"]
    assert "Xcode 16" in drivers["iphone"]["fix"]
    assert not drivers["local"]["missing"]
    code, told = agent("devices", "--json")
    assert code == 3
    assert [row["driver"] for row in json.loads(told.out)["devices"]] == ["local"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "unknown action 'fly'"),
        (["run"], "name a package"),
        (["run", "{model}", "--driver", "iphnoe"], "did you mean iphone"),
        (["run", "{model}"], "takes an .mlpackage"),
        (["run", "{model}", "--driver", "local", "--compute-unit", "all"], "no compute unit 'all'"),
        (["run", "{model}", "--driver", "xcode-report"], "agent import"),
        (["run", "{model}", "--driver", "local", "--rounds", "0"], "--rounds"),
        (["import"], "name a report"),
        (["import", "{model}"], "no JSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_an_error_that_names_the_fix(agent, model, arguments, words):
    code, told = agent(*[argument.replace("{model}", str(model)) for argument in arguments])
    assert code == 2
    assert words in told.err
