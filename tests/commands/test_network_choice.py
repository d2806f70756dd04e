"""Networks by pattern: which are meant, measured in batches, resumed after a kill, failures by cause."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from commands import batches
from commands.network_sizes import NetworkSize
from models.errors import UnknownModelError
from models.patterns import expanded
from models.timm_names import timm_names

ROOT = Path(__file__).parents[2]
SUITE = """
[suites.zoo]
description = "Networks by pattern, simulated"
backends = ["simulated"]

[[suites.zoo.matrix]]
models = ["timm/resnet18"]
resolutions = [224]
"""


@pytest.fixture
def zoo(project):
    project.add(SUITE)
    return project


def test_patterns_mean_names():
    found = expanded(["timm/resnet1*", "nextvit_small"], exclude=["timm/*d"])
    assert "timm/resnet18" in found
    assert "timm/resnet18d" not in found
    assert found[-1] == "nextvit_small"
    assert len(expanded(["timm/*"])) == len(timm_names())
    assert not any(name.startswith("peak/") for name in expanded(["*"]))


def test_tags_make_no_second_network():
    assert expanded(["timm/resnet18.*"]) == ("timm/resnet18",)
    assert expanded(["timm/resnet18.a1_in1k", "timm/resnet18", "timm/resnet18?"])[:1] == (
        "timm/resnet18.a1_in1k",
    )
    assert "timm/resnet18" not in expanded(["timm/resnet18.a1_in1k", "timm/resnet1*"])
    assert "timm/resnet18" not in expanded(["timm/resnet1*"], exclude=["timm/resnet18.*"])


@pytest.mark.parametrize(
    ("patterns", "exclude", "said"),
    [
        (["timm/resnt*"], [], "'timm/resnt*' fits no model: did you mean"),
        (["timm/resnet18", "timm/zzz?"], [], "'timm/zzz?' fits no model"),
        (["timm/resnet18*"], ["timm/*"], "--exclude leaves none of them"),
    ],
)
def test_a_pattern_that_fits_nothing_is_an_error(patterns, exclude, said):
    with pytest.raises(UnknownModelError) as refused:
        expanded(patterns, exclude=exclude)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model", "timm/zzz*"], "--model: 'timm/zzz*' fits no model"),
        (["--model", "timm/resnet18", "--exclude", "timm/*"], "--exclude narrows a pattern"),
        (["--max-params", "30M"], "--max-params narrows a pattern"),
        (["--model", "timm/resnet1*", "--max-params", "thirty"], "'thirty' is not a number above 0"),
        (["--model", "timm/resnet1*", "--max-gmacs", "0"], "'0' is not a number above 0"),
    ],
)
def test_bad_input_is_told(zoo, argv, said):
    answer = zoo.bench("--suite", "zoo", *argv)
    assert answer.code == 2
    assert said in answer.err
    assert not (zoo.folder / "results").exists()


def test_planning_hundreds_of_networks_loads_nothing_heavy(zoo):
    heavy = ("torch", "timm", "onnx", "onnxruntime", "pandas", "matplotlib", "plotly")
    code = (
        f"import sys, bench; bench.main(['--suite', 'zoo', '--model', 'timm/*', '--dry-run', '--config',"
        f" {str(zoo.config)!r}]); print([n for n in {heavy!r} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert f"{len(timm_names())} cases" in done.stdout


def test_sizes_narrow_a_pattern(zoo, monkeypatch):
    from commands import network_sizes

    sizes = {"timm/resnet10t": (5.4, 1.1), "timm/resnet14t": (10.1, 1.7), "timm/resnet18": (11.7, 1.8)}
    counted = [(name, NetworkSize(*size)) for name, size in sizes.items()]
    asked = []

    def count(names):
        asked.append(tuple(names))
        yield from (found for found in counted if found[0] in names)

    monkeypatch.setattr(network_sizes, "_counted", count)
    argv = ["--suite", "zoo", "--model", "timm/resnet1[04]t,timm/resnet18", "--dry-run"]
    answer = zoo.bench(*argv, "--max-params", "10.5M", "--max-gmacs", "1.2G")
    assert answer.code == 0, answer.err
    assert "1 of 3 networks are small enough" in answer.err
    assert "timm/resnet10t" in answer.out
    assert "1 cases" in answer.out
    again = zoo.bench(*argv, "--max-params", "1M")
    assert again.code == 2
    assert "--max-params 1M: none of 3 networks is so small" in again.err
    assert len(asked) == 1  # kept from the first time


def test_counting_tells_how_long_it_takes_and_keeps_what_it_has(tmp_path, monkeypatch):
    """The process that counts ends at the sixth of eight networks: five need no second count."""
    from commands import network_sizes

    def count(names):
        for number, name in enumerate(names):
            if ends and number == 5:
                raise network_sizes.SizesError("it ended")
            yield name, NetworkSize(1.0, 2.0)

    ends, told, names = True, [], [f"timm/net{number}" for number in range(8)]
    monkeypatch.setattr(network_sizes, "KEPT_EVERY", 2)
    monkeypatch.setattr(network_sizes, "_counted", count)
    with pytest.raises(network_sizes.SizesError):
        network_sizes.sizes_of(names, tmp_path, told.append)
    assert told[0] == "counting 8 networks, once for this version of timm"
    assert re.fullmatch(r"2 of 8 networks counted; about .* left", told[1])
    assert re.fullmatch(r"4 of 8 networks counted; about .* left", told[2])
    ends = False
    assert set(network_sizes.sizes_of(names, tmp_path, told.append)) == set(names)
    assert told[3] == "counting 3 networks, once for this version of timm"


@pytest.mark.slow
def test_real_sizes_are_those_that_are_published(tmp_path):
    from commands.network_sizes import sizes_of

    found = sizes_of(["timm/resnet18", "nextvit_small"], tmp_path, lambda text: None)
    assert found["timm/resnet18"].params_m == pytest.approx(11.69, abs=0.01)
    assert found["timm/resnet18"].gmacs == pytest.approx(1.82, abs=0.01)
    assert found["nextvit_small"].params_m == pytest.approx(31.76, abs=0.01)


def rounds_by_case(project) -> dict[str, list[int]]:
    with sqlite3.connect(project.folder / "results/bench.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT case_id, round_index FROM records WHERE kind = 'round'").fetchall()
    found = defaultdict(list)
    for case_id, index in rows:
        found[case_id].append(index)
    assert all(len(set(taken)) == len(taken) for taken in found.values())
    return found


def test_batches_share_no_round_and_the_report_says_so(zoo, monkeypatch):
    monkeypatch.setattr(batches, "NETWORKS", 2)
    answer = zoo.bench("--suite", "zoo", "--model", "timm/resnet1??")
    assert answer.code == 0, answer.err
    taken = rounds_by_case(zoo)
    sets = {tuple(sorted(indices)) for indices in taken.values()}
    assert len(sets) == -(-len(taken) // 2) > 1
    assert len({index for indices in sets for index in indices}) == sum(map(len, sets))
    assert f"{len(taken)} of {len(taken)} cases done" in answer.err
    assert re.search(rf"2 of {len(taken)} cases done in .*; about .* left", answer.err)
    assert "different batches were not taken side by side" in " ".join(answer.out.split())
    assert "unpaired" in (zoo.folder / "results/zoo.html").read_text()
    again = zoo.bench("--suite", "zoo", "--model", "timm/resnet1??")
    assert "shown from the store" in again.err
    assert rounds_by_case(zoo) == taken


def test_a_killed_zoo_goes_on_where_it_stopped(zoo):
    argv = ["--suite", "zoo", "--model", "timm/resnet1??", "--config", str(zoo.config)]
    command = [sys.executable, str(ROOT / "bench.py"), *argv]
    chance, killed = random.Random(4), 0
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
        time.sleep(chance.uniform(0.4, 1.5))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    answer = zoo.bench(*argv[:-2], "--json")
    assert answer.code == 0, answer.err
    value = json.loads(answer.out)
    assert killed >= 1
    assert all(case["failure"] is None for case in value["cases"])
    taken = rounds_by_case(zoo)
    assert len(taken) == len(value["cases"])
    assert all(len(indices) == 3 for indices in taken.values())
    with sqlite3.connect(zoo.folder / "results/bench.db") as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (1,)
