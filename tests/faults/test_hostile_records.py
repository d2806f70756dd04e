"""Records of another machine whose texts would steer the terminal: shown harmless everywhere."""

from __future__ import annotations

import importlib.util
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from bench import main
from reports.console import PlainConsole
from reports.records_file import write
from runners.measurement import Failure

ESCAPES = (
    "\x1b[2J\x1b]0;title\x07",
    "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\r\x08over",
    "\u202egnp.exe",
    "[bold red]markup[/] [link=x]y[/]",
)
STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def sample():
    path = Path(__file__).parents[1] / "reports/sample_run.py"
    spec = importlib.util.spec_from_file_location("faults_sample_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hostile_run(sample, text: str):
    """Every text that a file may set freely holds it: messages, a command, layers, a runtime's name."""
    cases = [sample.block_case(name, 14, 384) for name in ("block/ncb", "block/ntb")]
    results = [sample.measured(case, 0.2, 1.0, 90.0, seed=1) for case in cases]
    taken = tuple(
        replace(r, layers={f"layer {text}": 5}, protocol=replace(r.protocol, runtime=f"runtime {text}"))
        for r in results[0].rounds
    )
    results[0] = replace(results[0], rounds=taken, last_protocol_id=taken[-1].protocol.id)
    failed = replace(cases[1], precision="fp16")
    failure = Failure("crashed", f"first {text}\nsecond line", f"advice {text}", detail={"output": text})
    results.append(replace(results[1], case=failed, rounds=(), failure=failure, last_protocol_id=""))
    run = sample.run_of(results)
    return replace(run, info=replace(run.info, command=f"python {text}", suite="hostile"))


def said(capsys, *argv: str) -> str:
    capsys.readouterr()
    code = main(argv)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out + printed.err


def test_nothing_steers_the_terminal(tmp_path, capsys, sample, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    text = " ".join(ESCAPES)
    path, store = tmp_path / "hostile.json", tmp_path / "bench.db"
    write(hostile_run(sample, text), path)
    (tmp_path / "bench.toml").write_text("schema = 1\n[suites]\n")
    where = ["--store", str(store), "--config", str(tmp_path / "bench.toml")]
    printed = said(capsys, "import", str(path), *where)
    printed += said(capsys, "report", *where, "-o", str(tmp_path / "page.html"))
    printed += said(capsys, "report", "--list", *where)
    for form in ("csv", "json", "parquet", "records"):
        printed += said(capsys, "export", "--format", form, *where, "-o", str(tmp_path / f"out.{form}"))
    assert STEERING.search(printed) is None, STEERING.search(printed)
    assert "second line" in printed
    assert "[bold red]markup[/] [link=x]y[/]" in printed  # no markup: shown as it is written
    assert "nothing added" in said(capsys, "import", str(tmp_path / "out.records"), *where)


@pytest.mark.parametrize("text", [text for text in ESCAPES if not text.isprintable()])
@pytest.mark.parametrize("field", ["name", "backend", "device", "option"])
def test_names_that_would_steer_it_are_refused(tmp_path, capsys, sample, text, field):
    case = sample.block_case("block/ncb", 14, 384)
    changed = {
        "name": lambda: replace(case, model=replace(case.model, name=f"block/{text}")),
        "backend": lambda: replace(case, backend=text),
        "device": lambda: replace(case, device=text),
        "option": lambda: replace(case, runtime=((text, True),)),
    }[field]()
    path = tmp_path / "hostile.json"
    write(sample.run_of([sample.measured(changed, 0.2, 1.0, 90.0, seed=1, count=1)]), path)
    assert main(["import", str(path), "--store", str(tmp_path / "bench.db")]) == 2
    said = capsys.readouterr().err
    assert "cases[0].case: a name holds characters that cannot be printed" in said
    assert STEERING.search(said) is None
    assert not (tmp_path / "bench.db").exists()


def test_half_a_character_is_no_text(tmp_path, capsys, sample):
    path = tmp_path / "half.json"
    write(hostile_run(sample, "\ud800 alone"), path)
    assert main(["import", str(path), "--store", str(tmp_path / "bench.db")]) == 2
    assert "surrogates not allowed" in capsys.readouterr().err
    write(hostile_run(sample, "\U0001f600 whole"), path)
    assert main(["import", str(path), "--store", str(tmp_path / "bench.db")]) == 0


def test_a_bad_file_s_own_words_in_an_error(tmp_path, capsys, sample):
    path = tmp_path / "hostile.json"
    write(hostile_run(sample, "x"), path)
    path.write_text(path.read_text().replace('"hostile"', '"\\u001b[2Jhost"', 1))
    assert main(["import", str(path), "--store", str(tmp_path / "bench.db")]) == 2
    assert STEERING.search(capsys.readouterr().err) is None


def test_colours_of_our_own_stay():
    stream = io.StringIO()
    console = PlainConsole(file=stream, force_terminal=True, color_system="standard", width=40)
    console.print(Text("red", style="red"), Text("a\x1b[31mb\nc"))
    plain = io.StringIO()
    Console(file=plain, force_terminal=True, color_system="standard", width=40).print(
        Text("red", style="red")
    )
    assert stream.getvalue().startswith(plain.getvalue().rstrip("\n"))
    assert r"a\x1b[31mb" in stream.getvalue()
