"""Accuracies computed from stored predictions, their intervals, and what the store keeps of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from models.spec import ModelSpec
from reports.evaluations import NOT_FINITE, Evaluation, Share
from reports.store import Store, StoreError

NET = ModelSpec.of("nextvit_small", num_classes=7)


def same(left: Evaluation, right: Evaluation) -> bool:
    arrays = ("labels", "predicted", "ranks", "eager")
    return (
        left.facts() == right.facts()
        and left.evaluated_at_ns == right.evaluated_at_ns
        and all(np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays)
    )


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_newcombe(hits, count, low, high):
    """Statistics in Medicine 17 (1998), table I, method 3: the score interval without correction."""
    assert Share(hits, count).interval == pytest.approx((low, high), abs=6e-5)


def test_an_interval_holds_the_shares_that_its_test_does_not_reject():
    """The score test inverted: at both ends the distance is 1.96 standard errors under that share."""
    low, high = Share(350, 360).interval
    for end in (low, high):
        error = abs(350 / 360 - end) / np.sqrt(end * (1 - end) / 360)
        assert error == pytest.approx(norm.ppf(0.975), rel=1e-6)


def test_scores_are_counts_of_the_predictions(evaluated):
    one = evaluated.evaluation(NET, right=90, eager_right=93)
    assert (one.top1.hits, one.top1.count) == (90, 100)
    assert one.top5 is not None
    assert one.top5.hits == 100
    assert one.agreement is not None
    assert one.agreement.hits == 97
    assert (one.lost, one.gained) == (3, 0)
    assert sum(share.count for share in one.per_class.values()) == 100
    assert sum(share.hits for share in one.per_class.values()) == 90
    assert one.data == "pets, val (100 images)"


def test_a_network_of_five_outputs_has_no_top5(evaluated):
    from dataclasses import replace

    assert replace(evaluated.evaluation(NET), outputs=5).top5 is None


def test_an_output_that_is_not_finite_is_counted_and_wrong(evaluated):
    from dataclasses import replace

    one = evaluated.evaluation(NET, right=100)
    predicted, ranks = one.predicted.copy(), one.ranks.copy()
    predicted[:4], ranks[:4] = NOT_FINITE, 7
    broken = replace(one, predicted=predicted, ranks=ranks)
    assert (broken.not_finite, broken.top1.hits) == (4, 96)


def test_outputs_that_are_not_finite_on_both_sides_do_not_agree(evaluated):
    """No prediction is no equal prediction: agreement and what differs are all images, each once."""
    from dataclasses import replace

    from commands.eval_text import differences

    one = evaluated.evaluation(NET, right=100, eager_right=98)
    predicted, eager = one.predicted.copy(), one.eager.copy()
    predicted[:3], eager[1:5] = NOT_FINITE, NOT_FINITE  # 0: the file's alone, 1 and 2: both, 3 and 4: eager's
    broken = replace(one, predicted=predicted, eager=eager)
    assert broken.agreement is not None
    assert broken.agreement.hits == 93
    assert broken.differing.tolist() == [0, 1, 2, 3, 4, 98, 99]
    told = differences(broken, [str(index) for index in range(100)])
    assert [each["image"] for each in told] == ["0", "1", "2", "3", "4", "98", "99"]
    assert [(each["predicted"], each["eager"]) for each in told[:2]] == [("", "cat"), ("", "")]
    assert differences(evaluated.evaluation(NET), ["x"] * 100) == []


def test_the_backend_is_kept_and_rows_of_before_are_told_by_their_tool(store, evaluated):
    store.add_evaluation(evaluated.evaluation(NET, backend="openvino"))
    store.add_evaluation(evaluated.evaluation(NET))
    with closing(sqlite3.connect(store.path)) as raw:
        rows = raw.execute("SELECT facts FROM evaluations ORDER BY evaluation_id").fetchall()
    kept, before = (json.loads(facts)["file"] for (facts,) in rows)
    assert kept["backend"] == "openvino"
    assert "backend" not in before
    assert [(one.file.backend, one.file.run_by) for one in store.evaluations()] == [
        ("openvino", "openvino"), ("", "onnxruntime"),
    ]  # fmt: skip


def test_an_evaluation_comes_back_as_it_was_stored(store, evaluated):
    stored = [evaluated.evaluation(NET, eager_right=93, skipped=2), evaluated.evaluation(None, right=3)]
    assert [store.add_evaluation(one) for one in stored] == [1, 2]
    with Store(store.path, read_only=True) as again:
        found = again.evaluations()
    assert all(same(left, right) for left, right in zip(found, stored, strict=True))
    json.dumps([one.to_dict() for one in found], allow_nan=False)


def test_arrays_of_different_lengths_are_not_stored(store, evaluated):
    from dataclasses import replace

    with pytest.raises(ValueError, match="one label"):
        store.add_evaluation(replace(evaluated.evaluation(NET), ranks=np.zeros(3, np.int64)))
    assert store.evaluations() == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE evaluations SET predicted = zeroblob(length(predicted))",
        "UPDATE evaluations SET facts = replace(facts, '\"skipped\":0', '\"skipped\":9')",
        "UPDATE evaluations SET model = 'nextvit_base'",
    ],
)
def test_a_changed_evaluation_is_found(store, evaluated, damage):
    store.add_evaluation(evaluated.evaluation(NET))
    with closing(sqlite3.connect(store.path)) as raw, raw:
        assert raw.execute(damage).rowcount == 1
    with pytest.raises(StoreError, match=r"evaluations does not match its checksum.*restore"):
        store.evaluations()


def test_a_run_brings_the_evaluations_of_its_models_and_files(store, begin, evaluated, sample):
    from models.spec import Case

    own = ModelSpec("net.onnx", 224, (), "sha256:" + "c" * 64)
    info = begin(store, cases=[Case(NET, "onnxruntime"), Case(own, "onnxruntime")])
    store.add_evaluation(evaluated.evaluation(NET))
    store.add_evaluation(evaluated.evaluation(ModelSpec.of("nextvit_base")))
    store.add_evaluation(evaluated.evaluation(None, sha256="c" * 64))
    found = store.load_run(info.run_id).evaluations
    assert [one.file.model for one in found] == [NET, None]


def test_a_store_of_the_second_version_is_migrated_and_keeps_everything(tmp_path, sample, evaluated):
    """golden/store-v2.sql is a dump of a file that the second version wrote."""
    path = tmp_path / "bench.db"
    dump = Path(__file__).with_name("golden") / "store-v2.sql"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(dump.read_text())
        raw.execute(f"PRAGMA application_id = {0x44424E43}")
        raw.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="version 2, this program reads 3"):
        Store(path, read_only=True)
    with Store(path) as store:
        rounds = store.load_run(1).results[0].rounds
        assert [taken.parts["h2d"].tolist() for taken in rounds] == [[k * 1000 for k in range(1, 7)]] * 2
        assert np.array_equal(rounds[1].samples_ns, sample.make_round(2e6, index=1, count=6).samples_ns)
        assert store.evaluations() == []
        store.add_evaluation(evaluated.evaluation(NET))
        assert len(store.evaluations()) == 1
    assert (tmp_path / "bench.db.v2.bak").exists()
