"""Our loop beside a bare one on the same file: both really run, in turns; one disturbance moves little."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runners import cross_check
from runners.cross_check import Agreement, Pair, against_bare_loop
from runners.measurement import Job
from runners.overhead import OverheadError

MakeJob = Callable[..., Job]


def test_both_sides_time_the_same_file(make_job: MakeJob, conv_files: Any) -> None:
    agreement = against_bare_loop(make_job("onnxruntime", conv_files), pairs=2, windows=3)
    assert [len(pair.ours_ns) for pair in agreement.pairs] == [3, 3]
    assert all(value > 1000 for pair in agreement.pairs for value in pair.ours_ns + pair.bare_ns)
    assert 0.1 < agreement.ratio < 10
    assert agreement.standard_error > 0


@pytest.mark.parametrize(("precision", "expected"), [(math.inf, 2), (0.0, 4)])
def test_pairs_are_added_until_the_standard_error_is_small(
    make_job: MakeJob, conv_files: Any, precision: float, expected: int
) -> None:
    job = make_job("onnxruntime", conv_files)
    agreement = against_bare_loop(job, pairs=2, windows=1, precision=precision, max_pairs=4)
    assert len(agreement.pairs) == expected


def test_one_disturbed_window_does_not_move_a_pair() -> None:
    pair = Pair((101.0,) * 8 + (180.0,), (100.0,) * 9)
    assert math.exp(pair.log_ratio) == pytest.approx(1.01)


def test_the_ratio_is_over_processes_and_one_pair_has_no_standard_error() -> None:
    pairs = (Pair((102.0,), (100.0,)), Pair((100.0,), (102.0,)))
    assert Agreement(pairs).ratio == pytest.approx(1.0)
    assert Agreement(pairs).standard_error == pytest.approx(math.log(1.02), rel=1e-3)
    assert Agreement(pairs[:1]).standard_error == math.inf


def test_a_side_that_fails_says_why(
    make_job: MakeJob, conv_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("onnxruntime", conv_files)
    missing = replace(job, artifact=tmp_path / "gone.onnx")
    monkeypatch.setattr(cross_check, "_bare", lambda job, loops: cross_check._ours(missing, loops))
    with pytest.raises(OverheadError, match=r"gone\.onnx"):
        against_bare_loop(job, pairs=1, windows=1)


def test_bare_loop_is_only_for_onnxruntime_on_the_cpu(make_job: MakeJob, conv_files: Any) -> None:
    with pytest.raises(ValueError, match="openvino"):
        against_bare_loop(make_job("openvino", conv_files))
