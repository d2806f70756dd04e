"""Records of one store reach another one whole, once, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.codec import encode
from reports.records_file import (
    RecordsError,
    content_digest,
    content_of,
    is_records_file,
    read,
    run_of,
    write,
)
from reports.store import Store, StoreError
from reports.strict import FormError
from runners.measurement import Top1

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_run(blocks_run):
    """Two measured cases and whatever failed, with parts and a NaN, in a tenth of a megabyte."""
    measured = [r for r in blocks_run.results if r.rounds][:2]
    failed = [r for r in blocks_run.results if r.failure][:1]
    taken = measured[0].rounds[0]
    parts = {"h2d": np.zeros(taken.samples_ns.size, dtype=np.int64), "enqueue": taken.samples_ns[::3] // 2}
    odd = dataclasses.replace(
        taken, parts=parts, layers={"conv": 1200}, output_error=float("nan"), top1=Top1(3, 4)
    )
    first = dataclasses.replace(measured[0], rounds=(odd, *measured[0].rounds[1:]))
    results = (first, *measured[1:], *failed)
    info = dataclasses.replace(blocks_run.info, case_ids=tuple(r.case.id for r in results))
    return dataclasses.replace(blocks_run, info=info, results=results)


def same(one, other) -> None:
    assert one.info == dataclasses.replace(other.info, run_id=one.info.run_id)
    assert [s.ledger for s in one.sessions] == [s.ledger for s in other.sessions]
    for left, right in zip(one.results, other.results, strict=True):
        assert left.case == right.case
        assert left.failure == right.failure
        assert len(left.rounds) == len(right.rounds)
        for a, b in zip(left.rounds, right.rounds, strict=True):
            assert encode(a.to_dict()) == encode(b.to_dict())
            assert np.array_equal(a.samples_ns, b.samples_ns)
            assert np.array_equal(a.warmup_ns, b.warmup_ns)
            assert {n: v.tolist() for n, v in a.parts.items()} == {n: v.tolist() for n, v in b.parts.items()}
        if right.artifact:
            assert left.artifact is not None
            assert left.artifact.sha256 == right.artifact.sha256
            assert left.artifact.steps == right.artifact.steps


def test_a_run_comes_back_as_it_was(small_run, tmp_path):
    sha256 = write(small_run, tmp_path / "r.json")
    found, named = read(tmp_path / "r.json")
    assert named == sha256 == content_digest(small_run) == content_digest(found)
    assert is_records_file(tmp_path / "r.json")
    same(found, small_run)


def test_the_file_is_standard_json_and_tells_no_folder(small_run, tmp_path):
    def refuse(name):
        raise AssertionError(name)

    write(small_run, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    value = json.loads(text, parse_constant=refuse)
    assert value["schema"] == 1
    artifact = value["content"]["cases"][0]["artifact"]
    assert "/" not in artifact["path"] + artifact["tensors"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_or_cut_file_is_refused(small_run, tmp_path, data):
    write(small_run, tmp_path / "r.json")
    good = (tmp_path / "r.json").read_bytes()
    place = data.draw(st.integers(0, len(good) - 2))
    if data.draw(st.booleans()):
        changed = good[:place]
    else:
        changed = (
            good[:place] + bytes([good[place] ^ (1 << data.draw(st.integers(0, 6)))]) + good[place + 1 :]
        )
    (tmp_path / "bad.json").write_bytes(changed)
    try:
        found, sha256 = read(tmp_path / "bad.json")
    except RecordsError:
        return
    # what is not refused is white space between the outer keys, which is no content
    assert sha256 == content_digest(small_run) == content_digest(found)


def crafted(run, path: Path, change) -> Path:
    """A file whose content was changed and its sha256 made to match."""
    write(run, path)
    value = json.loads(path.read_text())
    change(value["content"])
    value["sha256"] = hashlib.sha256(encode(value["content"]).encode()).hexdigest()
    path.write_text(json.dumps(value))
    return path


def in_round(**fields):
    return lambda content: content["cases"][0]["rounds"][0].update(fields)


def in_case(**fields):
    return lambda content: content["cases"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (in_round(samples_ns=[]), "no samples"),
        (in_round(samples_ns=[5, -1]), "samples_ns[1] = -1"),
        (in_round(samples_ns=[0]), "samples_ns[0] = 0"),
        (in_round(samples_ns=[1.5]), "1.5"),
        (in_round(samples_ns=[True]), "True"),
        (in_round(samples_ns=[2**63]), str(2**63)),
        (in_round(samples_ns=[2**62] * 4), "from 1 to 1e+15"),
        (in_round(warmup_ns=[10**15 + 1]), "from 1 to 1e+15"),
        (in_round(samples_ns=[{"$float": "nan"}]), "nan"),
        (in_round(samples_ns="many"), "a list of whole numbers is missing"),
        (in_round(samples_ns=None), "a list of whole numbers is missing"),
        (in_round(warmup_ns=[-3]), "warmup_ns[0] = -3"),
        (in_round(parts={"h2d": [1]}), "part h2d has 1 values for"),
        (in_round(parts={"host": []}), "part host has 0 values for"),
        (in_round(parts={"h2d": [-1]}), "parts.h2d[0] = -1"),
        (in_round(parts=None), "parts"),
        (in_round(loop_count=0), "out of range"),
        (in_round(loop_count="3"), "loop_count: '3' is not of type int"),
        (in_round(steady=1), "steady: 1 is not of type bool"),
        (in_round(phases={"start_ns": "x"}), "start_ns"),
        (in_round(unknown=1), "unknown"),
        (in_round(top1={"agreeing": 5, "positions": 4}), "cannot be"),
        (in_round(top1={"agreeing": 1.5, "positions": 4}), "top1"),
        (in_round(top1={"agreeing": 1}), "positions"),
        (in_round(top1="all"), "mapping"),
        (in_round(protocol={}), "missing"),
        (in_round(round_index=1), "a round is listed twice"),
        (in_case(id="0" * 16), "the id 0000000000000000 is not that of its facts"),
        (in_case(case={"backend": "trt"}), "case"),
        (in_case(rounds={}), "rounds"),
        (in_case(artifact=[]), "artifact"),
        (in_case(failure={"kind": 3, "message": ""}), "failure.kind: 3"),
        (lambda content: content["cases"].append(content["cases"][0]), "listed twice"),
        (lambda content: content["run"].update(started_at_ns=-1), "cannot be negative"),
        (lambda content: content["run"].update(seed="a"), "run.seed: 'a'"),
        (
            lambda content: content["run"].update(suite="../../escaped/page"),
            "'../../escaped/page' is no suite's",
        ),
        (lambda content: content["run"].update(suite="/tmp/page"), "no suite's name"),
        (lambda content: content["run"].update(suite=""), "no suite's name"),
        (lambda content: content["run"].update(suite="red\x1b[31m"), "'red\\x1b[31m' is no suite's name"),
        (lambda content: content["run"].pop("suite"), "suite"),
        (lambda content: content.update(cases=None), "cases"),
        (lambda content: content.update(sessions=[{"wall_ns": 1}]), "session"),
    ],
)
def test_what_cannot_have_been_measured_is_refused(small_run, tmp_path, change, says):
    path = crafted(small_run, tmp_path / "bad.json", change)
    with pytest.raises(RecordsError) as refused:
        read(path)
    assert says in str(refused.value)
    assert "bad.json" in str(refused.value)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, at: tuple = ()) -> list[tuple]:
    """Every place of a JSON value, of lists the first two entries."""
    if isinstance(value, dict):
        return [at, *(place for key in value for place in places(value[key], (*at, key)))]
    if isinstance(value, list):
        return [at, *(place for i in range(min(2, len(value))) for place in places(value[i], (*at, i)))]
    return [at]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_taken_or_refused_and_never_breaks(small_run, tmp_path, data):
    content = json.loads(encode(content_of(small_run)))
    place = data.draw(st.sampled_from(places(content)[1:]))
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data.draw(ANY_JSON)
    try:
        found = run_of(content)
    except FormError:
        return
    assert encode(content_of(found))
    with Store(tmp_path / f"{content_digest(found)}.db") as store, contextlib.suppress(StoreError):
        store.import_runs({content_digest(found): found})
        assert encode(content_of(store.load_run(1))) == encode(content_of(found))


def test_nan_in_place_of_a_number_is_refused(small_run, tmp_path):
    path = tmp_path / "r.json"
    write(small_run, path)
    path.write_text(path.read_text().replace('"samples_ns":[', '"samples_ns":[NaN,', 1))
    with pytest.raises(RecordsError, match="NaN"):
        read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"format": "deploybench records"}'])
def test_other_files_are_no_records(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(RecordsError, match=r"other\.json"):
        read(path)


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 20_000])
def test_deeply_nested_content_is_no_records(tmp_path, depth):
    path = tmp_path / "deep.json"
    content = "[" * depth + "0" + "]" * depth
    path.write_text(f'{{"format": "deploybench records", "schema": 1, "sha256": "x", "content": {content}}}')
    with pytest.raises(RecordsError, match=r"deep\.json.*copy it again"):
        read(path)


def test_a_newer_schema_says_update(small_run, tmp_path):
    path = tmp_path / "r.json"
    write(small_run, path)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2', 1))
    with pytest.raises(RecordsError, match="schema 2, newer than the 1"):
        read(path)


def test_an_imported_run_is_the_run_that_was_written(small_run, tmp_path):
    sha256 = content_digest(small_run)
    with Store(tmp_path / "s.db") as store:
        added = store.import_runs({sha256: small_run})
        assert added == {sha256: (1, True)}
        found = store.load_run(1)
        assert found.info.started_at_ns == small_run.info.started_at_ns
        assert found.info.finished_at_ns == small_run.info.finished_at_ns
        assert found.info.environment == small_run.info.environment
        assert found.info.config["imported"]["plan_digest"] == small_run.info.plan_digest
        assert store.find_run(small_run.info.plan_digest) is None  # no suite goes on with it
        stored = dataclasses.replace(found.info, plan_digest=small_run.info.plan_digest)
        stored = dataclasses.replace(stored, config=small_run.info.config)
        same(dataclasses.replace(found, info=stored), small_run)
        assert write(found, tmp_path / "again.json") == sha256  # from store to store it stays the same run
        assert store.import_runs({sha256: small_run}) == {sha256: (1, False)}
        assert len(store.runs()) == 1


def test_a_run_that_is_here_already_is_not_added_to_its_own_store(tmp_path, small_run):
    with Store(tmp_path / "s.db") as store:
        store.import_runs({content_digest(small_run): small_run})
        info = store.begin_run(
            suite="x", plan_digest="abc", seed=0, command="", config={}, environment={}, cases=()
        )
        own = store.load_run(info.run_id)
        write(own, tmp_path / "own.json")
        found, sha256 = read(tmp_path / "own.json")
        assert store.import_runs({sha256: found}) == {sha256: (info.run_id, False)}


def carried_by(store: Store, run, *, rounds: int):
    """The run as a suite of this store would have taken it, as far as the first rounds of every case."""
    info = run.info
    begun = store.begin_run(
        suite=info.suite, plan_digest=info.plan_digest, seed=info.seed, command=info.command,
        config=info.config, environment=info.environment, cases=[r.case for r in run.results],
    )  # fmt: skip
    for result in run.results:
        outcomes = [*result.rounds[:rounds], *([result.failure] if result.failure else [])]
        for outcome in outcomes:
            store.append(begun.run_id, result.case.id, outcome, artifact=result.artifact)
    return begun


def test_a_file_with_more_rounds_than_the_run_here_is_added(small_run, tmp_path):
    """As where the store is an older backup, and the file was written from the one that was lost."""
    with Store(tmp_path / "s.db", clock_ns=lambda: small_run.info.started_at_ns) as store:
        begun = carried_by(store, small_run, rounds=2)
        sha256 = content_digest(small_run)
        assert store.import_runs({sha256: small_run}) == {sha256: (begun.run_id + 1, True)}
        assert len(store.load_run(begun.run_id + 1).results[0].rounds) == len(small_run.results[0].rounds)
        assert store.import_runs({sha256: small_run}) == {sha256: (begun.run_id + 1, False)}


def test_a_run_here_that_was_only_shown_since_is_the_same(small_run, tmp_path):
    with Store(tmp_path / "s.db", clock_ns=lambda: small_run.info.started_at_ns) as store:
        begun = carried_by(store, small_run, rounds=1000)
        written = store.load_run(begun.run_id)
        store.finish_run(begun.run_id)
        store.add_session(begun.run_id, 5, 10**9, {})
        assert content_digest(store.load_run(begun.run_id)) != content_digest(written)
        sha256 = content_digest(written)
        assert store.import_runs({sha256: written}) == {sha256: (begun.run_id, False)}


def test_all_files_are_imported_or_none(small_run, tmp_path):
    broken = dataclasses.replace(small_run, info=dataclasses.replace(small_run.info, seed=2**70))
    with Store(tmp_path / "s.db") as store:
        with pytest.raises(StoreError):
            store.import_runs({"one": small_run, "two": broken})
        assert store.runs() == []


def test_two_imports_at_once_add_one_run(small_run, tmp_path):
    write(small_run, tmp_path / "r.json")
    code = f"""
from pathlib import Path
from reports.records_file import read
from reports.store import Store
run, sha256 = read(Path({str(tmp_path / "r.json")!r}))
with Store(Path({str(tmp_path / "s.db")!r})) as store:
    print(store.import_runs({{sha256: run}})[sha256])
"""
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate()[0].strip() for process in both)
    assert said == ["(1, False)", "(1, False)", "(1, True)"]
