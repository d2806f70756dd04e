"""A stored run of networks of one latency: all that it says is of the store, and bad values are refused."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.spec import Case, ModelSpec
from reports.console import PlainConsole
from reports.export import document
from reports.html import render
from reports.match_found import MATCH, FoundNetwork, MatchFound
from reports.matched_run import failures_of, matched_of, title_of
from reports.records import StoredRun
from reports.records_file import content_of, run_of
from reports.strict import FormError
from reports.terminal import print_table

DIGITS = {"kind": "checkpoint", "data": "digits", "count": 100}


def case(name: str, depth: int) -> Case:
    return Case(ModelSpec.of(name, resolution=32, depth=depth), "onnxruntime")


NCB, LSA = case("blocknet/ncb", 12), case("blocknet/lsa", 6)
FOUND = MatchFound(
    "depth",
    0.03,
    (
        FoundNetwork(NCB.id, 12, trainings=("n0", "n1")),
        FoundNetwork(LSA.id, 6, "depth 6 takes 1.01", ("hidden", 94), ("l0", "l1")),
    ),
    seeds=2,
    epochs=15,
    failures={"blocknet/mbconv": "the reference: killed"},
)


@pytest.fixture
def learned(evaluated):
    """An evaluation of a training: weights that are kept nowhere, so many of 100 digits right."""

    def make(model: ModelSpec, training: str, right: int, **changes):
        trained = dataclasses.replace(model, weights="sha256:" + f"{right:064x}")
        one = evaluated.evaluation(trained, right=right, **DIGITS, **changes)
        return dataclasses.replace(one, file=dataclasses.replace(one.file, training=training))

    return make


@pytest.fixture
def match_run(sample, learned) -> StoredRun:
    results = [sample.measured(one, 0.04, 1.0, rate, seed=1) for one, rate in ((NCB, 90.0), (LSA, 89.5))]
    run = sample.run_of(results, suite="blocks-accuracy")
    info = dataclasses.replace(run.info, config={**run.info.config, MATCH: FOUND.to_dict()})
    rights = {"n0": (NCB, 97), "n1": (NCB, 99), "l0": (LSA, 90), "l1": (LSA, 92), "other": (LSA, 3)}
    trainings = tuple(learned(one.model, name, right) for name, (one, right) in rights.items())
    return dataclasses.replace(run, info=info, trainings=trainings)


def test_accuracies_are_those_of_the_trainings_that_the_run_names(match_run):
    reference, lsa = matched_of(match_run)
    assert (reference.model, reference.within, reference.top1) == (
        "blocknet/ncb",
        "the reference",
        (0.97, 0.99),
    )
    assert (lsa.setting_text, lsa.top1, lsa.images) == ("depth 6, hidden 94", (0.9, 0.92), 100)
    assert lsa.comparison is not None
    assert lsa.comparison.delta == 0.03
    assert lsa.comparison.ratio.value == pytest.approx(90.0 / 89.5, rel=0.02)
    label = "blocknet/ncb 32 fp32 onnxruntime"
    assert title_of(match_run) == f"blocks-accuracy: within 3 % of the time of {label}"
    assert failures_of(match_run) == {"blocknet/mbconv": "the reference: killed"}


def test_of_one_training_the_newest_evaluation_counts(match_run, learned):
    again = (*match_run.trainings, learned(LSA.model, "l1", 80))
    assert matched_of(dataclasses.replace(match_run, trainings=again))[1].top1 == (0.9, 0.8)


def test_a_run_that_is_under_way_says_what_it_lacks(match_run, capsys):
    some = tuple(one for one in match_run.trainings if one.file.training in ("n0", "n1", "l1"))
    run = dataclasses.replace(match_run, trainings=some)
    assert matched_of(run)[1].top1 == (0.92,)
    note = "Not all trainings are done: blocknet/lsa has 1 of 2."
    print_table(run, PlainConsole(width=300))
    assert note in capsys.readouterr().out
    assert note in render(run)
    assert "Not all trainings" not in render(match_run)


def test_page_terminal_and_export_have_the_section(match_run, capsys):
    page = render(match_run)
    assert '<section id="matched">' in page
    assert "98.00 [85.29, 100.00]" in page  # Student's, over two seeds: 0.98 ± 12.706 x 0.01
    assert "Evaluated artifacts" not in page
    print_table(match_run, PlainConsole(width=200))
    printed = capsys.readouterr().out
    assert title_of(match_run) in printed
    assert "91.00 [78.29, 100.00]" in printed
    print_table(match_run, PlainConsole(width=50))
    assert "blocknet/ncb " in capsys.readouterr().out  # names are whole in a narrow window too
    told = document(match_run, samples=False)
    assert [each["top1"] for each in told["matched"]["networks"]] == [[0.97, 0.99], [0.9, 0.92]]
    assert [each["trainings"] for each in told["matched"]["networks"]] == [2, 2]
    json.dumps(told, allow_nan=False)


def test_an_ordinary_run_has_none_of_it(blocks_run):
    assert matched_of(blocks_run) == ()
    assert title_of(blocks_run) == ""
    assert "matched" not in document(blocks_run, samples=False)
    assert '<section id="matched">' not in render(blocks_run)


def test_a_training_is_the_accuracy_of_no_case(store, begin, evaluated, learned):
    """Its weights are kept nowhere: it stands beside no latency, and among no evaluated files."""
    info = begin(store, cases=[NCB, LSA])
    store.add_evaluation(learned(LSA.model, "l0", 90))
    store.add_evaluation(evaluated.evaluation(LSA.model, right=50))
    run = store.load_run(info.run_id)
    assert [one.top1.hits for one in run.evaluations] == [50]
    assert [(one.file.training, one.top1.hits) for one in run.trainings] == [("l0", 90)]
    assert [one.file.training for one in store.evaluations()] == ["l0", ""]


def test_rows_of_before_have_no_training_and_are_read(store, evaluated, learned):
    """What is not of a training is written as it always was, so both forms are in one file."""
    store.add_evaluation(evaluated.evaluation(LSA.model))
    store.add_evaluation(learned(LSA.model, "l0", 90))
    with closing(sqlite3.connect(store.path)) as raw:
        rows = raw.execute("SELECT facts FROM evaluations ORDER BY evaluation_id").fetchall()
    files = [json.loads(facts)["file"] for (facts,) in rows]
    assert "training" not in files[0]
    assert files[1]["training"] == "l0"
    assert [one.file.training for one in store.evaluations()] == ["", "l0"]


def test_records_bring_the_section_without_accuracies(match_run):
    found = run_of(content_of(match_run))
    networks = matched_of(found)
    assert [each.top1 for each in networks] == [(), ()]
    assert networks[1].within == matched_of(match_run)[1].within
    assert "blocknet/lsa has 0 of 2" in render(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"networks": []}, "are not the cases of the run"),
        ({"networks": FOUND.to_dict()["networks"][:1]}, "are not the cases of the run"),
        ({"tolerance": 0.0}, "tolerance: 0.0 is no share"),
        ({"tolerance": "3 %"}, "tolerance: '3 %' is not of type float"),
        ({"knob": None}, "knob: None is not of type str"),
        ({"more": 1}, "unexpected keyword argument"),
    ],
)
def test_what_no_search_finds_is_refused(match_run, change, says):
    content = content_of(match_run)
    content["run"]["config"] = {**content["run"]["config"], MATCH: {**FOUND.to_dict(), **change}}
    with pytest.raises(FormError, match=says):
        run_of(content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_is_taken_or_refused(match_run, data):
    """What is taken can be shown."""
    value = FOUND.to_dict()
    value["networks"] = [dict(each) for each in value["networks"]]
    target = data.draw(st.sampled_from([value, *value["networks"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(VALUES)
    config = {**match_run.info.config, MATCH: value if data.draw(st.booleans()) else data.draw(VALUES)}
    run = dataclasses.replace(match_run, info=dataclasses.replace(match_run.info, config=config))
    try:
        taken = run_of(content_of(run))
    except FormError:
        return
    assert len(matched_of(taken)) == 2
    json.dumps(document(taken, samples=False)["matched"], allow_nan=False)
