"""A suite is bundled here, measured there, and its records are imported: on one machine, in two folders."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from commands.bundle_contents import content
from converters import archive
from converters.artifact import ConversionFailure
from models.spec import Case, ModelSpec
from reports.store import Store
from runners.measurement import Timing

ROOT = Path(__file__).parents[2]
GPU = Path("/dev/nvidiactl").exists()

# what a machine with a runtime and NumPy lacks
LACKING = (
    "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxsim", "safetensors", "scipy", "pandas", "rich",
    "pydantic", "psutil", "matplotlib", "plotly", "jinja2", "pyarrow",
)  # fmt: skip


def _helper():
    path = Path(__file__).with_name("carried.py")
    spec = importlib.util.spec_from_file_location("commands_carried", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


carried = _helper()


@pytest.fixture
def there(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def bundle(project, *argv: str, suite: str = "tiny", name: str = "b.tar") -> Path:
    path = project.folder / name
    answer = project.bench("bundle", "--suite", suite, "-o", str(path), *argv)
    assert answer.code == 0, answer.err
    return path


def run_there(project, path: Path, folder: Path, *argv: str):
    return project.bench("run-bundle", str(path), "-o", str(folder / "records.json"), *argv, config=False)


def records(store: Path) -> list[tuple[str, str, int, bytes]]:
    with sqlite3.connect(store) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute(
            "SELECT case_id, kind, round_index, checksum FROM records ORDER BY record_id"
        ).fetchall()


def test_a_suite_goes_there_and_its_records_come_back(project, there):
    path = bundle(project)
    measured = run_there(project, path, there)
    assert measured.code == 0, measured.err
    assert "python bench.py import records.json" in measured.out
    assert len(records(there / "records.db")) == 4 * 3

    imported = project.bench("import", str(there / "records.json"))
    assert imported.code == 0, imported.err
    assert "run 1, suite tiny, 4 cases, 12 rounds" in imported.out
    shown = project.bench("report")
    assert shown.code == 0
    assert "SIMULATED" in shown.out
    assert "bottleneck" in shown.out

    again = project.bench("import", str(there / "records.json"))
    assert again.code == 0
    assert "in the store already, as run 1: nothing added" in again.out
    assert len(records(project.folder / "results/bench.db")) == 12


def test_run_bundle_again_shows_what_is_stored(project, there):
    path = bundle(project)
    run_there(project, path, there)
    first, taken = (there / "records.json").read_bytes(), records(there / "records.db")
    again = run_there(project, path, there)
    assert again.code == 0
    assert records(there / "records.db") == taken
    assert (there / "records.json").read_bytes() == first
    fresh = run_there(project, path, there, "--fresh", "--json")
    assert fresh.code == 0
    assert len(records(there / "records.db")) == 24
    assert sum(json.loads(fresh.out)["rounds"].values()) == 12


def test_export_writes_the_same_kind_of_file(project, tmp_path):
    assert project.bench("--suite", "tiny").code == 0
    path = tmp_path / "exported.json"
    assert project.bench("export", "--format", "records", "-o", str(path)).code == 0
    own = project.bench("import", str(path))
    assert "in the store already, as run 1" in own.out
    other = project.bench("import", str(path), "--store", str(tmp_path / "other.db"))
    assert "run 1, suite tiny, 4 cases, 12 rounds" in other.out


def test_the_same_suite_gives_the_same_bundle(project):
    one = bundle(project, "--rounds", "4")
    two = bundle(project, "--rounds", "4", name="again.tar")
    assert one.read_bytes() == two.read_bytes()
    assert bundle(project, "--rounds", "5", name="more.tar").read_bytes() != one.read_bytes()
    with tarfile.open(one) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
    assert manifest["content"]["timing"]["min_rounds"] == 4
    assert str(project.folder) not in json.dumps(manifest)


def test_every_file_is_stored_once(project):
    made = carried.put(project, "nets", "onnxruntime", carried.relu_graph)
    path = bundle(project, suite="nets")
    with tarfile.open(path) as tar:
        names = tar.getnames()
    different = {a.sha256 for a in made} | {a.tensors_sha256 for a in made}
    assert len(different) == 2  # two networks of one input shape: one graph, one set of tensors
    assert len(names) == 1 + len(different)


def test_a_file_that_is_there_is_not_replaced_unasked(project):
    path = bundle(project)
    before = path.read_bytes()
    refused = project.bench("bundle", "--suite", "tiny", "-o", str(path))
    assert refused.code == 2
    assert "--force" in refused.err
    assert path.read_bytes() == before
    assert project.bench("bundle", "--suite", "tiny", "-o", str(path), "--force").code == 0
    assert project.bench("bundle", "--suite", "tiny", "-o", str(project.folder)).code == 2


def test_a_full_disk_leaves_no_bundle(project):
    """A limit on the size of files stands in for the end of the disk: the write fails part-way."""
    path = project.folder / "b.tar"
    code = f"""
import resource, signal, sys, bench
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
sys.exit(bench.main(["bundle", "--suite", "tiny", "--config", {str(project.config)!r}, "-o", {str(path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert [p.name for p in project.folder.iterdir() if "b.tar" in p.name] == []


def test_what_cannot_be_converted_is_told_there_and_here(project, there):
    """Swin's windows do not fit this resolution, which is found when it is built; the other is bundled."""
    swin = "timm/swin_tiny_patch4_window7_224"
    narrow = {"models": ("nextvit_small",), "resolutions": ("200",)}
    carried.put(project, "nets", "onnxruntime", carried.relu_graph, **narrow)
    path = project.folder / "b.tar"
    argv = ["bundle", "--suite", "nets", "--model", f"nextvit_small,{swin}", "--resolution", "200"]
    made = project.bench(*argv, "-o", str(path))
    assert made.code == 1
    assert f"not in the bundle: {swin} 200" in made.err
    assert "1 of 2 cases" in made.out
    measured = run_there(project, path, there, "--rounds", "2")
    assert measured.code == 1
    assert f"{swin} 200 fp32 onnxruntime: failed: " in measured.out
    project.bench("import", str(there / "records.json"))
    reported = project.bench("report").out
    assert "nextvit_small" in reported
    assert "swin_tiny" in reported


def with_a_failed_conversion(path: Path) -> Path:
    """A bundle of one simulated case and one that could not be converted."""
    spec = ModelSpec.of("block/ncb", resolution=14, in_channels=384)
    cases = (Case(spec, "simulated"), Case(spec, "onnxruntime"))
    timing = Timing(
        min_rounds=2, max_rounds=2, round_seconds=0.02, warmup_seconds=0.0, max_warmup_seconds=0.1,
        target=0.5, deadline_seconds=30,
    )  # fmt: skip
    failed = {cases[1].id: ConversionFailure("unsupported", "exported", "no such operator")}
    described, paths = content("tiny", "", timing, cases, failed, project={})
    with path.open("wb") as file:
        archive.write(file, described, paths)
    return path


def test_a_run_with_a_failed_conversion_settles(project, there):
    path = with_a_failed_conversion(project.folder / "b.tar")
    measured = run_there(project, path, there)
    assert measured.code == 1
    assert "failed: exported: no such operator" in measured.out
    stored, first = records(there / "records.db"), (there / "records.json").read_bytes()
    assert [row[1] for row in stored].count("failure") == 1
    again = run_there(project, path, there)
    assert again.code == 1
    assert "failed: exported: no such operator" in again.out
    assert records(there / "records.db") == stored
    assert (there / "records.json").read_bytes() == first


def test_what_is_tried_again_and_interrupted_at_once_leaves_the_run_finished(project, there, monkeypatch):
    """Nothing was added, so the next invocation still knows that this is a second try."""
    path = bundle(project)
    run_there(project, path, there)
    failed = carried.fail_first_case(there / "records.db")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("commands.recording.measure", interrupt)
        assert run_there(project, path, there).code == 130
    with Store(there / "records.db", read_only=True) as store:
        assert store.load_run(1).info.finished_at_ns is not None
    assert len(records(there / "records.db")) == 3 * 3 + 1
    assert run_there(project, path, there).code == 0
    with Store(there / "records.db", read_only=True) as store:
        run = store.load_run(1)
    assert run.info.finished_at_ns is not None
    again = next(result for result in run.results if result.case.id == failed)
    assert [taken.round_index for taken in again.rounds] == [3, 4, 5]


def test_only_numpy_and_the_runtime_are_needed_there(project, there):
    """Every other package is made unfindable in the process and in those that it starts."""
    carried.put(project, "nets", "onnxruntime", carried.relu_graph, models=("nextvit_small",))
    path = bundle(project, "--model", "nextvit_small", "--rounds", "2", suite="nets")
    hidden = project.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Lacking:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {LACKING!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is not installed here')\n"
        "sys.meta_path.insert(0, Lacking())\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}"}
    check = [sys.executable, "-c", "import onnx"]
    assert b"not installed here" in subprocess.run(check, env=env, capture_output=True).stderr
    argv = ["run-bundle", str(path), "-o", str(there / "records.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *argv], env=env, cwd=there, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # A busy machine adds second attempts.
    assert {index for _, _, index, *_ in records(there / "records.db")} == {0, 1}
    value = json.loads((there / "records.json").read_text())
    assert value["content"]["cases"][0]["rounds"][0]["protocol"]["backend"] == "onnxruntime"


def test_a_killed_run_goes_on_where_it_stopped(project, there):
    path = bundle(project, "--rounds", "12")
    command = [sys.executable, str(ROOT / "bench.py"), "run-bundle", str(path)]
    command += ["-o", str(there / "records.json")]
    store = there / "records.db"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (store.exists() and _count(store) >= 5):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = records(store)
    assert 5 <= len(kept) < 48
    assert not (there / "records.json").exists()

    again = run_there(project, path, there)
    assert again.code == 0, again.err
    assert "resuming run 1" in again.err
    taken = records(store)
    assert taken[: len(kept)] == kept
    assert len({row[:3] for row in taken}) == len(taken) == 48


def _count(store: Path) -> int:
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_an_interrupted_run_writes_what_there_is(project, there):
    path = bundle(project, "--rounds", "40")
    command = [sys.executable, str(ROOT / "bench.py"), "run-bundle", str(path)]
    command += ["-o", str(there / "records.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((there / "records.db").exists() and _count(there / "records.db") >= 5):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in out
    value = json.loads((there / "records.json").read_text())
    rounds = sum(len(case["rounds"]) for case in value["content"]["cases"])
    assert 5 <= rounds == _count(there / "records.db") < 160
    assert value["content"]["run"]["finished_at_ns"] is None
    assert project.bench("import", str(there / "records.json")).code == 0
    assert "not finished" in project.bench("report").out


def test_records_that_cannot_be_written_in_the_end_cost_no_round(project, there):
    """A folder that takes the place of the records while they are measured stands in for a full disk."""
    path, output = bundle(project, "--rounds", "6"), there / "records.json"
    command = [sys.executable, str(ROOT / "bench.py"), "run-bundle", str(path), "-o", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((there / "records.db").exists() and _count(there / "records.db") >= 1):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    output.mkdir()
    _, said = process.communicate()
    assert process.returncode == 1
    assert f"cannot write {output}" in said
    assert (
        f"The rounds are in {there / 'records.db'}: run the same command with another -o and --store" in said
    )
    taken = records(there / "records.db")
    assert len(taken) == 24

    told = ["-o", str(there / "other.json"), "--store", str(there / "records.db")]
    assert project.bench("run-bundle", str(path), *told, config=False).code == 0
    assert records(there / "records.db") == taken
    value = json.loads((there / "other.json").read_text())
    assert sum(len(case["rounds"]) for case in value["content"]["cases"]) == 24


def test_records_that_cannot_be_written_are_refused_before_measuring(project, there):
    path = bundle(project)
    (there / "blocked").write_text("")
    for output, says in (
        (there / "blocked/records.json", "cannot write"),
        (there, "is a folder"),
    ):
        told = ["-o", str(output), "--store", str(there / "records.db")]
        refused = project.bench("run-bundle", str(path), *told, config=False)
        assert refused.code == 2
        assert says in refused.err
        assert not (there / "records.db").exists()


@pytest.mark.skipif(GPU, reason="an NVIDIA driver is here: the engines would be loaded")
def test_engines_without_a_gpu_are_built_not_timed(project, there):
    pytest.importorskip("tensorrt_rtx", reason="planning for trt needs a TensorRT package")
    carried.put(project, "nets", "trt", carried.no_graph)
    path = bundle(project, "--backend", "trt", suite="nets")
    measured = run_there(project, path, there)
    assert measured.code == 3, measured.err
    assert measured.out.count("built, not timed: ") == 2
    stored, first = records(there / "records.db"), (there / "records.json").read_bytes()
    assert run_there(project, path, there).code == 3
    assert records(there / "records.db") == stored  # nothing has changed, so nothing is added
    assert (there / "records.json").read_bytes() == first
    assert project.bench("import", str(there / "records.json")).code == 0
    case = json.loads((there / "records.json").read_text())["content"]["cases"][0]
    assert case["rounds"] == []
    assert case["failure"]["built"] is True
    assert case["artifact"]["target"] == case["case"]["target"]


def test_a_file_that_could_run_code_needs_its_makers_word(project, there):
    carried.put(project, "nets", "torch", carried.no_graph, models=("nextvit_small",))
    path = project.folder / "b.tar"
    argv = ["bundle", "--suite", "nets", "--backend", "torch", "--model", "nextvit_small"]
    made = project.bench(*argv, "-o", str(path), "--json")
    sha256 = json.loads(made.out)["sha256"]

    refused = run_there(project, path, there)
    assert refused.code == 2
    assert "can run code" in refused.err
    assert f"--trust {sha256}" in refused.err
    assert list(there.iterdir()) == []
    other = run_there(project, path, there, "--trust", "0" * 64)
    assert other.code == 2
    assert "is another bundle" in other.err
    assert run_there(project, path, there, "--trust", "me").code == 2

    trusted = run_there(project, path, there, "--trust", sha256, "--rounds", "2")
    assert trusted.code == 1  # it is loaded, and is no exported program
    assert "failed: " in trusted.out


def test_a_changed_bundle_measures_nothing(project, there):
    path = bundle(project)
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    refused = run_there(project, path, there)
    assert refused.code == 2
    assert "copy the bundle again" in refused.err
    assert list(there.iterdir()) == []


def crafted(path: Path, change) -> Path:
    """A bundle of the same files whose plan was changed and its sha256 made to match."""
    from converters.archive_reader import read_manifest

    manifest = read_manifest(path)
    content = json.loads(json.dumps(manifest.content))
    change(content)
    text = archive.manifest_bytes(content, manifest.members)
    body = path.read_bytes()[
        archive.end_of(manifest.size_bytes, ()) : archive.end_of(manifest.size_bytes, manifest.members)
    ]
    head = archive.header("manifest.json", len(text)) + text + archive.padding(len(text))
    made = path.with_name("crafted.tar")
    made.write_bytes(head + body + archive.trailer(len(head) + len(body)))
    return made


def case(index: int, **fields):
    return lambda content: content["cases"][index].update(fields)


def artifact(**fields):
    return lambda content: content["cases"][0]["artifact"].update(fields)


def timing(**fields):
    return lambda content: content["timing"].update(fields)


def recased(**fields):
    """Another case, with the id that it has."""

    def change(content):
        entry = content["cases"][0]
        entry["case"].update(fields)
        entry["id"] = Case.from_dict(entry["case"]).id

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content.update(format="other"), "holds no bundle"),
        (lambda content: content.update(suite=3), "suite"),
        (lambda content: content.update(suite="../up"), "bundle.suite: '../up' is no suite's name"),
        (lambda content: content["cases"].append(content["cases"][0]), "a case is listed twice"),
        (lambda content: content["cases"].pop(), "belong to no case"),
        (lambda content: content.pop("cases"), "'cases' is missing"),
        (case(0, id="0" * 16), "is not that of its facts"),
        (case(0, artifact=None), "neither a file nor a failure"),
        (case(0, case={}), "missing"),
        (artifact(path="/etc/passwd"), "no file of the archive"),
        (artifact(path="../../etc/passwd"), "no file of the archive"),
        (artifact(tensors="files/x"), "no file of the archive"),
        (artifact(sha256="0" * 64), "no file of the archive"),
        (artifact(kind="exported_program"), "loads files of kind 'onnx', not 'exported_program'"),
        (artifact(batch_size=2), "the file is not of"),
        (recased(batch_size=2), "the file is not of"),
        (recased(target="sm89"), "the file is not of"),
        (recased(backend="torch"), "loads files of kind 'exported_program', not 'onnx'"),
        (recased(backend="tensorflow"), "unknown backend 'tensorflow'"),
        (recased(precision="fp99"), "not fp99"),
        (recased(threads=0), "at least 1"),
        (recased(threads="many"), "threads"),
        (artifact(size_bytes="many"), "size_bytes"),
        (timing(min_rounds="5"), "min_rounds"),
        (timing(min_rounds=0), "min_rounds"),
        (timing(round_seconds=-1.0), "round_seconds"),
        (timing(target={"$float": "inf"}), "target"),
        (timing(unknown=1), "unknown"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(project, there, change, says):
    carried.put(project, "nets", "onnxruntime", lambda request: request.model.name.encode())
    path = bundle(project, suite="nets")
    refused = run_there(project, crafted(path, change), there)
    assert refused.code == 2, refused.out
    assert says in refused.err
    assert not (there / "records.db").exists()


def test_records_do_not_replace_another_file(project, there):
    path = bundle(project)
    (there / "records.json").write_text('{"mine": 1}')
    refused = run_there(project, path, there)
    assert refused.code == 2
    assert "no file of records" in refused.err
    assert (there / "records.json").read_text() == '{"mine": 1}'
    same = project.bench("run-bundle", str(path), "-o", str(path), config=False)
    assert same.code == 2
    assert "three files" in same.err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["bundle", "-o", "x.tar"], "--suite NAME is missing"),
        (["bundle", "--suite", "tiny"], "-o/--output"),
        (["bundle", "--suite", "tinny", "-o", "x.tar"], "did you mean tiny"),
        (["run-bundle", "missing.tar", "-o", "r.json"], "no bundle at missing.tar"),
        (["run-bundle", "-o", "r.json"], "FILE"),
        (["import"], "FILE"),
        (["import", "missing.json"], "missing.json"),
    ],
)
def test_bad_command_lines(project, monkeypatch, argv, says):
    monkeypatch.chdir(project.folder)
    answer = project.bench(*argv, config=argv[0] != "run-bundle")
    assert answer.code == 2
    assert says in answer.err
    assert not list(project.folder.glob("*.db")) + list(project.folder.glob("x.tar"))
