"""The comparison of a runtime's outputs with the references, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners import verify
from runners.measurement import Top1
from runners.runner import Array, Description, RunnerError


class Fixed:
    """A runner whose outputs are given."""

    def __init__(self, *outputs: object) -> None:
        self.given = outputs
        self.clock = lambda: 0
        self.asynchronous = False

    def outputs(self, index: int) -> list[Array]:
        value = self.given[index]
        several = value if isinstance(value, tuple) else (value,)
        return [np.asarray(output, dtype=np.float32) for output in several]

    def load(self, job: object, inputs: Sequence[Array]) -> None: ...
    def infer(self, index: int) -> object: ...
    def synchronize(self) -> None: ...
    def describe(self) -> Description: ...  # type: ignore[empty-body]
    def close(self) -> None: ...


def check(outputs: Sequence[object], references: Sequence[object], tolerance: float = 1e-3) -> float:
    expected = [np.asarray(value, dtype=np.float32) for value in references]
    return verify.OutputCheck(expected, tolerance).run(Fixed(*outputs), range(len(expected)))


def test_largest_error_of_all_inputs_is_returned() -> None:
    assert check([[1.0, 2.0], [4.0, 4.0004]], [[1.0, 2.0], [4.0, 4.0]]) == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("outputs", "references", "words"),
    [
        ([[1.0, 2.1], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], "output 0 is off by 0.05"),
        ([[1.0, 2.0], [3.0, np.nan]], [[1.0, 2.0], [3.0, 4.0]], "output 1"),
        ([[1.0, np.inf], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], "output 0"),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, np.nan], [3.0, 4.0]], "output 0"),
        ([[1.0, np.inf], [3.0, 4.0]], [[1.0, np.inf], [3.0, 4.0]], "output 0"),
        ([[1.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], "shape"),
        ([([1.0, 1.0], [1.0, 1.0]), [3.0, 4.0]], [[1.0, 1.0], [3.0, 4.0]], "2 outputs"),
        ([[1e-3, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], "output 0"),
    ],
)
def test_wrong_outputs(outputs: Sequence[object], references: Sequence[object], words: str) -> None:
    with pytest.raises(RunnerError, match=words) as caught:
        check(outputs, references, 1e-4)
    assert caught.value.kind == "wrong_output"


@pytest.mark.parametrize(
    ("output", "words"),
    [([0.01, 0.02, -0.03, 0.04], "times its size"), ([0.0] * 4, "cosine"), ([4.0, -1.0, 1.0, 2.0], "cosine")],
    ids=["scaled", "zeros", "another"],
)
def test_a_tolerance_wide_enough_for_int8_still_needs_size_and_direction(
    output: list[float], words: str
) -> None:
    reference = [1.0, 2.0, -3.0, 4.0]
    with pytest.raises(RunnerError, match=words):
        check([output], [reference], tolerance=1.0)
    assert check([[1.3, 1.6, -2.5, 4.6]], [reference], tolerance=1.0) < 0.2


def test_one_stored_output_for_all_inputs_is_caught_even_within_tolerance() -> None:
    """References that differ by less than the tolerance, as a random deep network gives them."""
    with pytest.raises(RunnerError, match="bit for bit"):
        check([[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0001]], 0.1)


def test_output_stored_after_the_first_check_is_caught() -> None:
    """Input 1 is checked once more and now gives what input 0 gave, within tolerance."""
    references = [np.array([1.0, 2.0]), np.array([1.0, 2.0001])]
    check_of = verify.OutputCheck(references, 0.1)
    check_of.run(Fixed([1.0, 2.0], [1.0, 2.0001]), (0, 1))
    check_of.run(Fixed([1.0, 2.0], [1.0, 2.0001]), (1,))
    with pytest.raises(RunnerError, match="inputs 0 and 1"):
        check_of.run(Fixed([1.0, 2.0], [1.0, 2.0]), (1,))


def test_agreement_is_counted_over_images_and_stays_at_its_worst() -> None:
    references = [np.array([[1.0, 2.0], [4.0, 3.0]]), np.array([[0.5, 0.1], [0.2, 0.3]])]
    check_of = verify.OutputCheck(references, 10)
    assert check_of.top1 is None
    close = Fixed([[1.0, 2.0], [3.0, 3.1]], [[0.5, 0.1], [0.2, 0.31]])
    check_of.run(close, (0, 1))
    assert check_of.top1 == Top1(3, 4)
    check_of.run(Fixed(*close.given[:1], [[0.3, 0.31], [0.2, 0.31]]), (1,))
    assert check_of.top1 == Top1(2, 4)
    check_of.run(close, (1,))
    assert check_of.top1 == Top1(2, 4)


@pytest.mark.parametrize(
    ("shape", "positions"),
    [((2, 5), 2), ((2, 5, 3, 4), 24), ((2, 6, 5), 12), ((2, 1), 0), ((5,), 0), ((), 0)],
)
def test_positions_are_those_of_the_channels(shape: tuple[int, ...], positions: int) -> None:
    value = np.random.default_rng(0).standard_normal(shape)
    found = verify.top1_of(value, value)
    assert found == (Top1(positions, positions) if positions else None)


@pytest.mark.parametrize(("agreeing", "positions"), [(-1, 4), (5, 4), (0, 0)])
def test_a_count_that_cannot_be_is_refused(agreeing: int, positions: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Top1(agreeing, positions)


def test_equal_references_may_have_equal_outputs() -> None:
    assert check([[1.0], [1.0]], [[1.0], [1.0]]) == 0


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(1e-6, 0.1))
def test_error_is_relative_to_the_largest_magnitude(values: list[float], error: float) -> None:
    reference = np.array(values, dtype=np.float64)
    scale = np.max(np.abs(reference)) or 1.0
    output = reference.copy()
    output[0] += error * scale
    assert verify.relative_error(output, reference) == pytest.approx(error, rel=1e-6, abs=1e-9)


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    verify.check_sha256(path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    for wrong in ("", "ba78"):
        with pytest.raises(RunnerError, match="sha256"):
            verify.check_sha256(path, wrong)
    with pytest.raises(RunnerError, match="No such file"):
        verify.check_sha256(tmp_path / "b", "")
    with pytest.raises(RunnerError, match="directory"):
        verify.check_sha256(tmp_path, "")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "0 inputs"),
        ({"input_0": 1, "reference_0": 1}, "1 inputs"),
        ({"input_0": 1, "input_1": 1, "reference_0": 1}, "reference_1"),
        ({"input_0": 1, "input_2": 1, "reference_0": 1, "reference_2": 1}, "input_1"),
    ],
)
def test_tensors_that_are_incomplete(tmp_path: Path, arrays: dict[str, int], words: str) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, **{name: np.array([value, -1 - i]) for i, (name, value) in enumerate(arrays.items())})
    with pytest.raises(RunnerError, match=words) as caught:
        verify.read_tensors(path)
    assert caught.value.kind == "bad_artifact"


@pytest.mark.parametrize(
    ("second", "words"), [([0.0, 0.0], "input 1 .* constant"), ([1.0, 2.0], "inputs 0 and 1 .* equal")]
)
def test_inputs_that_prove_nothing_are_refused(tmp_path: Path, second: list[float], words: str) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, input_0=np.array([1.0, 2.0]), input_1=second, reference_0=[1.0], reference_1=[2.0])
    with pytest.raises(RunnerError, match=words):
        verify.read_tensors(path)


def test_judged_inputs_are_none_of_those_that_are_timed(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    names = ("input", "reference", "judged_input", "judged_reference")
    values = {f"{name}_{i}": np.array([i, k]) for i in range(3) for k, name in enumerate(names, 7)}
    np.savez(path, **values)
    for read, first in ((verify.read_tensors, 7), (verify.read_judged, 9)):
        inputs, references = read(path)
        assert [int(value[1]) for value in inputs] == [first] * 3
        assert [int(value[1]) for value in references] == [first + 1] * 3
    np.savez(path, **{name: value for name, value in values.items() if name != "judged_reference_1"})
    with pytest.raises(RunnerError, match="judged_reference_1"):
        verify.read_judged(path)


def test_tensors_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    values = {f"{name}_{i}": np.array([i, -1]) for i in range(12) for name in ("input", "reference")}
    np.savez(path, **dict(reversed(values.items())))
    inputs, references = verify.read_tensors(path)
    assert [int(value[0]) for value in inputs] == [int(value[0]) for value in references] == list(range(12))
