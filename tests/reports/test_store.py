from __future__ import annotations

import dataclasses
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.records import StoredRun
from reports.store import DuplicateRecordError, Store, StoreError
from runners.measurement import Failure, Phases, Protocol, Round, Top1


def same(left: Round, right: Round) -> bool:
    """Equality of rounds: their arrays make `==` ambiguous."""
    fields = [f.name for f in dataclasses.fields(Round) if not f.name.endswith("samples_ns")]
    plain = [name for name in fields if name not in ("warmup_ns", "parts")]
    arrays = ("samples_ns", "warmup_ns")
    if list(left.parts) != list(right.parts):
        return False
    if not all(np.array_equal(left.parts[name], right.parts[name]) for name in left.parts):
        return False
    return all(_equal(getattr(left, n), getattr(right, n)) for n in plain) and all(
        np.array_equal(getattr(left, n), getattr(right, n)) for n in arrays
    )


def _equal(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return left == right


def test_an_empty_store_has_no_runs(store):
    assert store.runs() == []
    assert store.latest() is None
    assert store.find_run("plan") is None


def test_a_run_comes_back_as_it_was_begun(store, begin, sample):
    info = begin(store)
    assert store.load_run(info.run_id).info == info
    assert info.config == {"timing": {"target": 0.01}}
    assert info.environment == sample.ENVIRONMENT
    assert info.finished_at_ns is None
    assert info.target == 0.01


def test_cases_keep_the_plan_order(store, begin, sample):
    names = ["block/repvgg", "block/ncb", "block/mbconv", "block/convnext"]
    cases = [sample.block_case(name, 7, 768) for name in names]
    info = begin(store, cases=cases)
    assert [r.case for r in store.load_run(info.run_id).results] == cases
    assert info.case_ids == tuple(case.id for case in cases)


def test_a_whole_run_survives_the_store_unchanged(store, blocks_run):
    stored = put(store, blocks_run)
    assert [r.case for r in stored.results] == [r.case for r in blocks_run.results]
    for found, given_ in zip(stored.results, blocks_run.results, strict=True):
        assert found.artifact == given_.artifact
        assert found.failure == given_.failure
        assert found.attempts == given_.attempts
        assert all(same(a, b) for a, b in zip(found.rounds, given_.rounds, strict=True))
    assert [s.ledger for s in stored.sessions] == [s.ledger for s in blocks_run.sessions]


def put(store: Store, run: StoredRun) -> StoredRun:
    info = store.begin_run(
        suite=run.info.suite, plan_digest=run.info.plan_digest, seed=run.info.seed, command=run.info.command,
        config=run.info.config, environment=run.info.environment, cases=[r.case for r in run.results],
    )  # fmt: skip
    for result in run.results:
        for outcome in (*result.rounds, *([result.failure] if result.failure else [])):
            store.append(info.run_id, result.case.id, outcome, artifact=result.artifact)
    for session in run.sessions:
        store.add_session(info.run_id, session.started_at_ns, session.wall_ns, session.ledger)
    return store.load_run(info.run_id)


def test_what_was_read_is_what_a_later_process_reads(tmp_path, begin, sample):
    path = tmp_path / "results" / "bench.db"
    with Store(path) as store:
        info = begin(store)
        store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=None)
    with Store(path, read_only=True) as store:
        assert same(store.load_run(info.run_id).results[0].rounds[0], sample.make_round(2e6))


def test_read_only_refuses_to_write(tmp_path, begin):
    with Store(tmp_path / "bench.db") as store:
        begin(store)
    with Store(tmp_path / "bench.db", read_only=True) as store, pytest.raises(StoreError, match=r"bench\.db"):
        begin(store)


def test_record_ids_grow(store, begin, sample):
    info = begin(store)
    ids = [
        store.append(info.run_id, case_id, sample.make_round(2e6, index=i), artifact=None)
        for i in range(3)
        for case_id in info.case_ids
    ]
    assert ids == sorted(set(ids))


def test_the_same_round_is_refused_and_the_first_one_kept(store, begin, sample):
    info = begin(store)
    case_id = info.case_ids[0]
    store.append(info.run_id, case_id, sample.make_round(2e6), artifact=None)
    with pytest.raises(DuplicateRecordError, match=r"already holds round 0 \(attempt 0\)"):
        store.append(info.run_id, case_id, sample.make_round(9e6), artifact=None)
    (kept,) = store.load_run(info.run_id).results[0].rounds
    assert same(kept, sample.make_round(2e6))


def test_a_second_attempt_of_a_round_is_another_record(store, begin, sample):
    info = begin(store)
    for attempt in (0, 1):
        taken = sample.make_round(2e6, attempt=attempt, flags=("disturbed",) if attempt == 0 else ())
        store.append(info.run_id, info.case_ids[0], taken, artifact=None)
    result = store.load_run(info.run_id).results[0]
    assert [r.attempt for r in result.rounds] == [0, 1]
    assert result.attempts == 2


def test_a_round_after_a_failure_clears_it_and_one_before_does_not(store, begin, sample):
    info = begin(store)
    first, second = info.case_ids
    failure = Failure("crashed", "signal 11", signal=11, round_index=0, detail={"stderr": "boom"})
    store.append(info.run_id, first, failure, artifact=None)
    store.append(info.run_id, first, sample.make_round(2e6), artifact=None)
    store.append(info.run_id, second, sample.make_round(2e6), artifact=None)
    store.append(info.run_id, second, failure, artifact=None)
    recovered, failed = store.load_run(info.run_id).results
    assert recovered.failure is None
    assert failed.failure == failure
    assert failed.measurement is not None
    assert (recovered.attempts, failed.attempts) == (2, 2)


def test_the_same_failure_may_happen_again(store, begin):
    info = begin(store)
    for _ in range(3):
        store.append(info.run_id, info.case_ids[0], Failure("deadline", "120 s are over"), artifact=None)
    assert store.load_run(info.run_id).results[0].attempts == 3


def test_an_artifact_is_stored_once_and_known_without_a_round(store, begin, sample):
    info = begin(store)
    case = sample.block_case("block/ncb", 14, 384)
    artifact = sample.make_artifact(case, 0.2, 1.0)
    store.set_artifact(info.run_id, case.id, artifact)
    assert store.load_run(info.run_id).results[0].artifact == artifact
    for index in range(3):
        store.append(info.run_id, case.id, sample.make_round(2e6, index=index), artifact=artifact)
    with closing(sqlite3.connect(store.path)) as raw:
        assert raw.execute("SELECT count(*) FROM artifacts").fetchone() == (1,)


def test_a_rebuilt_artifact_replaces_the_case_s_but_not_the_record_s(store, begin, sample):
    info = begin(store)
    old = sample.make_artifact(sample.block_case("block/ncb", 14, 384), 0.2, 1.0)
    new = dataclasses.replace(old, sha256="f" * 64)
    store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=old)
    store.append(info.run_id, info.case_ids[0], sample.make_round(2e6, index=1), artifact=new)
    assert store.load_run(info.run_id).results[0].artifact == new
    with closing(sqlite3.connect(store.path)) as raw:
        assert len(raw.execute("SELECT DISTINCT artifact_id FROM records").fetchall()) == 2


def test_a_run_is_found_by_its_plan_and_by_its_suite(store, begin):
    first = begin(store, plan_digest="a", suite="blocks")
    second = begin(store, plan_digest="a", suite="blocks")
    third = begin(store, plan_digest="b", suite="variants")
    store.finish_run(first.run_id)
    assert store.find_run("a").run_id == second.run_id
    assert store.latest().run_id == third.run_id
    assert store.latest("blocks").run_id == second.run_id
    assert store.latest("nothing") is None
    assert [info.run_id for info in store.runs()] == [first.run_id, second.run_id, third.run_id]


def test_finish_and_reopen(store, begin):
    info = begin(store)
    store.finish_run(info.run_id)
    assert store.find_run("plan").finished_at_ns == 1_700_000_000_000_000_000
    store.reopen_run(info.run_id)
    assert store.find_run("plan").finished_at_ns is None


def test_rounds_of_another_protocol_are_set_aside(store, begin, sample):
    info = begin(store)
    for index in range(2):
        store.append(info.run_id, info.case_ids[0], sample.make_round(2e6, index=index), artifact=None)
    updated = dataclasses.replace(sample.protocol(), runtime="onnxruntime 1.32.0")
    newer = sample.make_round(2e6, index=2, protocol=updated)
    store.append(info.run_id, info.case_ids[0], newer, artifact=None)
    result = store.load_run(info.run_id).results[0]
    assert result.measurement.protocol == updated
    assert [r.round_index for r in result.measurement.rounds] == [2]
    assert [r.round_index for r in result.other_protocol_rounds] == [0, 1]


def test_what_json_lacks_survives(store, begin, sample):
    info = begin(store)
    odd = {"nan": math.nan, "inf": -math.inf, "np": np.float64(0.5), "n": np.int64(3), "text": "µ\x00☃"}
    taken = sample.make_round(2e6, output_error=math.nan, environment=odd)
    store.append(info.run_id, info.case_ids[0], taken, artifact=None)
    (found,) = store.load_run(info.run_id).results[0].rounds
    assert math.isnan(found.output_error)
    assert math.isnan(found.environment["nan"])
    assert {k: v for k, v in found.environment.items() if k != "nan"} == {
        "inf": -math.inf, "np": 0.5, "n": 3, "text": "µ\x00☃",
    }  # fmt: skip


def test_a_command_line_that_is_no_utf8_is_kept_readable(store, sample):
    info = store.begin_run(
        suite="blocks", plan_digest="p", seed=0, command="bench.py --store caf\udce9", config={},
        environment={}, cases=[sample.block_case("block/ncb", 14, 384)],
    )  # fmt: skip
    assert info.command == "bench.py --store caf\\udce9"


@pytest.mark.parametrize("samples", [[], [5, 0, 7], [5, -1]])
def test_a_round_without_positive_samples_is_refused(store, begin, sample, samples):
    info = begin(store)
    taken = sample.make_round(2e6, samples_ns=np.array(samples, np.int64))
    with pytest.raises(StoreError, match="no samples, or one that is not positive"):
        store.append(info.run_id, info.case_ids[0], taken, artifact=None)
    assert store.load_run(info.run_id).results[0].attempts == 0


def test_fractional_samples_are_refused(store, begin, sample):
    info = begin(store)
    taken = sample.make_round(2e6, samples_ns=np.array([1.5]))
    with pytest.raises(ValueError, match="1-D integer array, not float64"):
        store.append(info.run_id, info.case_ids[0], taken, artifact=None)


def test_a_case_outside_the_plan_is_refused(store, begin, sample):
    info = begin(store)
    with pytest.raises(StoreError, match="case feedfeedfeedfeed is not in the plan of run 1"):
        store.append(info.run_id, "feedfeedfeedfeed", sample.make_round(2e6), artifact=None)


def test_a_plan_with_a_case_twice_is_refused(store, begin, sample):
    case = sample.block_case("block/ncb", 14, 384)
    with pytest.raises(ValueError, match="plans the same case twice: block/ncb 14x14x384"):
        begin(store, cases=[case, case])
    assert store.runs() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.load_run(99),
        lambda s: s.finish_run(99),
        lambda s: s.reopen_run(99),
        lambda s: s.add_session(99, 0, 1, {}),
        lambda s: s.append(99, "x", Failure("load", "no"), artifact=None),
    ],
)
def test_an_unknown_run_is_named(store, call):
    with pytest.raises(StoreError, match="no run 99"):
        call(store)


def test_a_number_beyond_64_bits_is_a_clear_error(store, sample):
    with pytest.raises(StoreError, match="too large"):
        store.begin_run(
            suite="blocks", plan_digest="p", seed=2**70, command="", config={}, environment={},
            cases=[sample.block_case("block/ncb", 14, 384)],
        )  # fmt: skip


PARTS = {"h2d": [3, 4, 5], "enqueue": [1, 2]}  # the host's share is not taken with every sample


def with_parts(sample, **changes):
    samples = np.array([5_000_000, 6_000_000, 7_000_000])
    parts = {name: np.array(values) for name, values in PARTS.items()}
    return sample.make_round(2e6, samples_ns=samples, parts=parts, layers={"conv": 7}, **changes)


def test_parts_come_back_in_order_with_every_value(store, begin, sample):
    info = begin(store)
    for index in range(2):
        store.append(info.run_id, info.case_ids[0], with_parts(sample, index=index), artifact=None)
    plain = sample.make_round(2e6, index=2)
    store.append(info.run_id, info.case_ids[0], plain, artifact=None)
    found = store.load_run(info.run_id).results[0].rounds
    assert same(found[0], with_parts(sample))
    assert list(found[1].parts) == ["h2d", "enqueue"]
    assert found[1].layers == {"conv": 7}
    assert same(found[2], plain)


@pytest.mark.parametrize(("name", "values"), [("h2d", [1, 2]), ("host", [1, 2, 3, 4]), ("host", [])])
def test_a_part_that_does_not_fit_its_samples_is_refused(store, begin, sample, name, values):
    info = begin(store)
    taken = dataclasses.replace(with_parts(sample), parts={name: np.array(values, dtype=np.int64)})
    with pytest.raises(
        StoreError, match=rf"round 0 of case .* {name} has {len(values)} values for 3 samples"
    ):
        store.append(info.run_id, info.case_ids[0], taken, artifact=None)
    assert store.load_run(info.run_id).results[0].attempts == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE parts SET samples = zeroblob(length(samples)) WHERE name = 'h2d'", "checksum"),
        ("UPDATE parts SET name = 'd2h' WHERE name = 'h2d'", "checksum"),
        ("DELETE FROM parts WHERE name = 'h2d'", "not those stored"),
    ],
)
def test_damaged_and_lost_parts_are_found(store, begin, sample, damage, words):
    info = begin(store)
    store.append(info.run_id, info.case_ids[0], with_parts(sample), artifact=None)
    with closing(sqlite3.connect(store.path)) as raw, raw:
        assert raw.execute(damage).rowcount > 0
    with pytest.raises(StoreError, match=rf"{words}.*restore"):
        store.load_run(info.run_id)


def test_a_store_of_the_first_version_is_migrated_and_keeps_everything(tmp_path, sample):
    """golden/store-v1.sql is a dump of a file that the first version wrote."""
    path = tmp_path / "bench.db"
    dump = Path(__file__).with_name("golden") / "store-v1.sql"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(dump.read_text())
        raw.execute(f"PRAGMA application_id = {0x44424E43}")
        raw.execute("PRAGMA user_version = 1")
    with pytest.raises(StoreError, match="version 1, this program reads 3"):
        Store(path, read_only=True)
    with Store(path) as store:
        run = store.load_run(1)
        assert len(run.results) == 2
        for index, taken in enumerate(run.results[0].rounds):
            assert same(taken, sample.make_round(2e6, index=index, count=6))
        assert run.results[1].failure == Failure("crashed", "signal 11", signal=11, round_index=0)
        store.reopen_run(1)
        store.append(1, run.results[0].case.id, with_parts(sample, index=2), artifact=None)
        assert list(store.load_run(1).results[0].rounds[2].parts) == ["h2d", "enqueue"]
    assert (tmp_path / "bench.db.v1.bak").exists()
    with Store(path, read_only=True) as store:
        assert store.load_run(1).info.case_ids == run.info.case_ids


DAMAGE = [
    ("records", "UPDATE records SET samples = zeroblob(length(samples))"),
    ("records", "UPDATE records SET round_index = 4"),
    ("records", "UPDATE records SET facts = replace(facts, '\"steady\":true', '\"steady\":false')"),
    ("protocols", "UPDATE protocols SET facts = replace(facts, '\"threads\":1', '\"threads\":8')"),
    ("artifacts", "UPDATE artifacts SET facts = replace(facts, '\"gmacs\":0.2', '\"gmacs\":0.1')"),
    ("cases", "UPDATE cases SET facts = replace(facts, 'fp32', 'fp16')"),
    ("runs", "UPDATE runs SET environment = '{}'"),
    ("sessions", "UPDATE sessions SET wall_ns = 1"),
]


@pytest.mark.parametrize(("table", "damage"), DAMAGE)
def test_a_changed_row_is_found_when_it_is_read(store, begin, sample, table, damage):
    info = begin(store)
    artifact = sample.make_artifact(sample.block_case("block/ncb", 14, 384), 0.2, 1.0)
    store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=artifact)
    store.add_session(info.run_id, 0, 10**9, {"timed_ns": 5})
    with closing(sqlite3.connect(store.path)) as raw, raw:
        assert raw.execute(damage).rowcount > 0
    with pytest.raises(StoreError, match=rf"of {table} does not match its checksum.*restore"):
        store.load_run(info.run_id)


def test_samples_cannot_be_changed_after_reading(store, begin, sample):
    info = begin(store)
    store.append(info.run_id, info.case_ids[0], sample.make_round(2e6), artifact=None)
    (taken,) = store.load_run(info.run_id).results[0].rounds
    with pytest.raises(ValueError, match="read-only"):
        taken.samples_ns[0] = 1


times = st.lists(st.integers(1, 2**62), min_size=1, max_size=40).map(lambda v: np.array(v, np.int64))
text = st.text(max_size=12)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), text)
readings = st.dictionaries(text, st.one_of(leaves, st.lists(leaves, max_size=3)), max_size=4)
protocols = st.builds(
    Protocol, backend=text, runtime=text, device=text, threads=st.integers(1, 64), clock=text, sync=text,
    timed=text, inputs=text, warmup=text, min_sample_ns=st.integers(0, 10**9), cuda_graph=st.booleans(),
    options=st.dictionaries(text, text, max_size=3),
)  # fmt: skip
rounds = st.builds(
    Round, round_index=st.integers(0, 30), position=st.integers(0, 99), attempt=st.integers(0, 3),
    protocol=protocols, loop_count=st.integers(1, 2**20), samples_ns=times,
    warmup_ns=st.one_of(times, st.just(np.array([], np.int64))), steady=st.booleans(),
    output_error=st.floats(allow_nan=False), phases=st.builds(Phases, start_ns=st.integers(0, 2**60)),
    started_at_ns=st.integers(0, 2**62), environment=readings, flags=st.lists(text, max_size=3).map(tuple),
    peak_rss_bytes=st.integers(0, 2**50),
    top1=st.none() | st.integers(1, 10**9).map(lambda n: Top1(n // 2, n)),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taken=rounds)
def test_any_round_comes_back_equal(tmp_path_factory, sample, taken):
    case = sample.block_case("block/ncb", 14, 384)
    with Store(tmp_path_factory.mktemp("any") / "bench.db") as store:
        info = store.begin_run(
            suite="s", plan_digest="p", seed=0, command="", config={}, environment={}, cases=[case]
        )
        store.append(info.run_id, case.id, taken, artifact=None)
        (found,) = store.load_run(info.run_id).results[0].rounds
    assert same(found, taken)


def test_a_path_with_odd_characters_works(tmp_path, begin):
    path = tmp_path / "a ?b#c%20" / "bench ü.db"
    with Store(path) as store:
        begin(store)
    assert path.exists()
    with Store(Path(path), read_only=True) as store:
        assert len(store.runs()) == 1
