"""Images for int8: which are drawn, that they are told by their contents, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.calibration import CalibrationImages
from models.calibration_draw import _splits, calibrating, judging, named
from models.errors import DataError
from models.image_data import eval_transform, open_data, preprocessing
from models.spec import ModelSpec

MICRO = ModelSpec.of("nextvit_micro", resolution=32)


@pytest.fixture(autouse=True)
def _listed_anew():
    _splits.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 images of noise to calibrate on, 5 held out."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("ant", "cat"):
            for number in range(count - (split == "val" and name == "cat")):
                path = tmp_path / "pets" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def test_images_are_drawn_by_a_fixed_seed_and_named_by_their_contents():
    found = named("digits", None)
    assert (found.name, found.count, len(found.sha256)) == ("digits", 128, 64)
    assert found == named("digits", 128)
    assert named("digits", 64).sha256 != found.sha256
    assert CalibrationImages.parse(str(found)) == found
    assert found.label == f"digits {found.sha256[:8]}"


def test_a_folder_s_name_may_hold_anything():
    odd = CalibrationImages("a:b 3", 5, "0" * 64)
    assert CalibrationImages.parse(str(odd)) == odd


def test_inputs_are_those_of_an_evaluation_and_none_is_held_out():
    images = named("digits", 20)
    inputs = list(calibrating("digits", images, MICRO, 8))
    assert [value.shape for value in inputs] == [(8, 3, 32, 32)] * 3
    assert np.array_equal(inputs[2][4:], inputs[0][:4])  # filled up from the first
    train, val = (open_data(None, split) for split in ("train", "val"))
    transform = eval_transform(preprocessing("nextvit_micro", resolution=32, fills_frame=True))
    known = {transform(train.load(index)).numpy().tobytes() for index in range(len(train))}
    calibrated = {value.tobytes() for batch in inputs for value in batch}
    assert len(calibrated) == 20
    assert calibrated <= known
    judged = judging("digits", MICRO, 8, first=0, count=4)
    held_out = {transform(val.load(index)).numpy().tobytes() for index in range(len(val))}
    assert {value.tobytes() for batch in judged for value in batch} <= held_out - calibrated
    more = judging("digits", MICRO, 8, first=2, count=3)
    assert np.array_equal(more[0], judged[2])
    assert np.array_equal(more[1], judged[3])


def test_as_many_are_judged_on_as_there_are(folder):
    assert len(judging(str(folder), MICRO, 1, first=0, count=4)) == 4
    assert len(judging(str(folder), MICRO, 1, first=4, count=60)) == 1
    assert len(judging(str(folder), MICRO, 2, first=0, count=4)) == 2
    with pytest.raises(DataError, match="val holds 5 images: at batch 4, 8 at least are judged on"):
        judging(str(folder), MICRO, 4, first=0, count=4)


def test_a_folder_gives_all_it_has_and_no_more(folder):
    assert named(str(folder), None).count == 12
    with pytest.raises(DataError, match="train holds 12 images, fewer than 13"):
        named(str(folder), 13)


def test_images_that_were_changed_since_the_plan_are_found(folder):
    images = named(str(folder), 12)
    before = list(calibrating(str(folder), images, MICRO, 4))
    assert torch.from_numpy(before[0]).isfinite().all()
    path = folder / "train/ant/0.png"
    Image.new("RGB", (20, 24), (1, 2, 3)).save(path)
    assert named(str(folder), 12) != images
    with pytest.raises(DataError, match="were changed since the plan"):
        list(calibrating(str(folder), images, MICRO, 4))
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/ant/0\.png.*repair or remove it"):
        list(calibrating(str(folder), named(str(folder), 12), MICRO, 4))
    path.unlink()
    _splits.cache_clear()
    with pytest.raises(DataError, match="train holds 11 images, fewer than the 12 planned"):
        list(calibrating(str(folder), images, MICRO, 4))


@pytest.mark.parametrize("missing", ["train", "val"])
def test_both_splits_are_wanted(folder, missing):
    (folder / missing).rename(folder / "other")
    with pytest.raises(DataError, match=f"{missing}: no such folder: give a folder with train/CLASS"):
        named(str(folder), None)
