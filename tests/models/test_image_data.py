"""Folders and digits as labelled images: what is read, in which order, and what is refused by name."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import DataError, ReadingError, UnreadableImageError
from models.image_data import Unreadable, eval_transform, open_data, preprocessing
from models.image_loading import (
    AHEAD_BYTES,
    Draw,
    EvalSamples,
    Loading,
    Samples,
    TrainSamples,
    batches,
    eval_batches,
    eval_lists,
    seeded,
)

ROOT = Path(__file__).parents[2]
FAULTY = Path("/proc/self/mem")  # its first bytes are mapped nowhere: reading them is an error of input


def image(path: Path, shade: int = 128, size: tuple[int, int] = (20, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "ant"):
            for number in range(count):
                image(tmp_path / split / name / f"{number}.png", shade=40 * number)
    return tmp_path


def plain(data):
    return eval_transform(preprocessing("nextvit_small", resolution=8, fills_frame=data.fills_frame))


def test_digits_are_split_once_and_for_all():
    train, val = open_data(None, "train"), open_data(None, "val")
    assert (len(train), len(val)) == (1433, 364)
    assert train.classes == val.classes == tuple("0123456789")
    assert np.bincount(val.labels).tolist() == [36, 37, 36, 37, 37, 37, 37, 36, 35, 36]
    seen = {val.load(index).tobytes() for index in range(len(val))}
    assert sum(train.load(index).tobytes() in seen for index in range(len(train))) == 0
    assert val.load(0).mode == "RGB"
    assert val.load(0).size == (8, 8)


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    data = open_data(folder, "train")
    assert data.classes == ("ant", "cat")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [Path(data.label_of(index)).name for index in range(3)] == ["0.png", "1.png", "2.png"]
    assert data.load(1).getpixel((0, 0)) == (40, 40, 40)


def test_val_takes_its_labels_from_train(folder):
    image(folder / "train/bee/0.png")
    data = open_data(folder, "val")
    assert data.classes == ("ant", "bee", "cat")
    assert data.labels.tolist() == [0, 0, 2, 2]


def test_val_stands_alone_where_there_is_no_train(tmp_path):
    image(tmp_path / "val/dog/0.jpg")
    assert open_data(tmp_path, "val").classes == ("dog",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: folder / "nowhere", r"nowhere: no such folder: give a folder with train/CLASS"),
        (lambda folder: image(folder / "file.png"), r"file.png: is a file"),
        (lambda folder: folder / "train", r"train/val: no such folder"),
        (
            lambda folder: (folder / "other/val").mkdir(parents=True) or folder / "other",
            "no folder of a class",
        ),
        (
            lambda folder: (folder / "val/ant2").mkdir() or folder,
            r"class 'ant2' is not in .*train: remove it",
        ),
        (
            lambda folder: ([path.unlink() for path in (folder / "val/cat").iterdir()], folder)[1],
            "cat: holds no",
        ),
    ],
    ids=["missing", "a file", "no val", "no class", "strange class", "empty class"],
)
def test_what_is_no_data_is_named(folder, damage, message):
    with pytest.raises(DataError, match=message):
        open_data(damage(folder), "val")


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["empty", "text", "cut"]
)
def test_an_unreadable_image_is_named(folder, content):
    path = folder / "val/ant/0.png"
    path.write_bytes(content)
    data = open_data(folder, "val")
    with pytest.raises(UnreadableImageError, match=str(path)):
        data.load(0)
    (batch,) = eval_batches(data, plain(data), batch_size=4)
    assert len(batch.images) == len(batch.labels) == 3
    assert [index for index, _ in batch.unreadable] == [0]


def test_a_truncated_jpeg_is_unreadable(folder):
    path = image(folder / "val/ant/0.jpg", size=(200, 200))
    path.write_bytes(path.read_bytes()[:-200])
    data = open_data(folder, "val")
    with pytest.raises(UnreadableImageError, match="truncated"):
        data.load(0)


def test_a_missing_image_is_unreadable_and_a_missing_folder_is_not(folder):
    """One file may have been removed; a folder goes with its disk, and with it all that it holds."""
    data = open_data(folder, "val")
    Path(data.sources[0]).unlink()
    with pytest.raises(UnreadableImageError, match="No such file"):
        data.load(0)
    (folder / "val/ant").rename(folder / "elsewhere")
    with pytest.raises(ReadingError, match=r"val/ant/1\.png: its folder is gone.* mounted"):
        data.load(1)


def test_no_open_file_left_is_no_unreadable_image(folder):
    data = open_data(folder, "val")
    data.load(0)  # Pillow opens files of its own first
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(ReadingError, match=r"0\.png: Too many open files: raise the limit"):
            data.load(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="no other system holds a process to its address space")
def test_no_memory_left_is_no_unreadable_image(folder):
    """In a process of its own: one that has run other tests holds memory that it may use again."""
    path = folder / "val/ant/0.png"
    Image.new("1", (12_000, 10_000)).save(path)  # 120 MB once it is decoded, 480 MB as RGB
    done = subprocess.run(
        [sys.executable, "-c", _SHORT_OF_MEMORY, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: out of memory while it was decoded")


_SHORT_OF_MEMORY = """
import os, resource, sys
from pathlib import Path
from models.errors import ReadingError
from models.image_data import open_data

data = open_data(Path(sys.argv[1]), "val")
data.load(1)
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**26, -1))
try:
    data.load(0)
except ReadingError as error:
    print(error)
"""


@pytest.mark.skipif(not FAULTY.exists(), reason="no file of this system refuses to be read")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_faulty_disk_ends_the_loading_in_one_line(folder, workers):
    path = folder / "val/ant/0.png"
    path.unlink()
    path.symlink_to(FAULTY)
    data = open_data(folder, "val")
    with pytest.raises(ReadingError) as caught:
        list(eval_batches(data, plain(data), batch_size=2, workers=workers))
    assert str(caught.value) == f"{path}: Input/output error: see that its disk or share works"
    assert multiprocessing.active_children() == []  # though the error and its frames are still here


def test_a_training_batch_stays_full(folder):
    data = open_data(folder, "train")
    many = type(data)("many", "train", data.classes, np.tile(data.labels, 50), data.sources * 50)
    Path(data.sources[0]).write_bytes(b"broken")
    (batch,) = batches(
        TrainSamples(many, plain(data)), [[Draw(0, (1,)), Draw(3, (2,))]], Loading(batch_size=2, side=8)
    )
    assert batch.labels.tolist() == [0, 1]
    assert torch.equal(batch.images[0], plain(data)(data.load(1)))
    assert [index for index, _ in batch.unreadable] == [0]


def test_above_one_percent_unreadable_is_an_error(folder):
    data = open_data(folder, "train")
    many = type(data)("many", "train", data.classes, np.tile(data.labels, 50), data.sources * 50)
    unreadable = Unreadable(many)
    assert [unreadable.add(index, f"image {index}") for index in (5, 5, 7, 9)] == [True, False, True, True]
    with pytest.raises(
        DataError, match=r"many: 4 of 300 images of train cannot be read, more than 1%.*\n  image 5"
    ):
        unreadable.add(11, "image 11")


@pytest.mark.parametrize(("side", "piece"), [(2, 3), (6400, 2), (20_000, 1)])
def test_workers_change_nothing(folder, side, piece):
    """Also where a side is claimed at which two workers load a batch of three in pieces of two, or of one."""
    data = open_data(folder, "train")
    samples = Samples(TrainSamples(data, lambda picture: torch.rand(3, 2, 2)), EvalSamples(data, plain(data)))
    Path(data.sources[4]).write_bytes(b"broken")
    lists = [[Draw(index, (0, index)), Draw(5 - index, (1, index)), Draw(0, (2,))] for index in range(4)]
    lists += [*eval_lists(6, 3), [4], [5, 4]]
    one, other = Loading(3, 2), Loading(3, side, workers=2)
    assert other.piece == piece
    runs = [list(batches(samples, lists, loading)) for loading in (one, other)]
    assert [len(batch.labels) for batch in runs[0]] == [3, 2, 3, 3, 3, 2, 0, 1]
    for alone, shared in zip(*runs, strict=True):
        assert torch.equal(alone.images, shared.images)
        assert torch.equal(alone.labels, shared.labels)
        assert [index for index, _ in alone.unreadable] == [index for index, _ in shared.unreadable]


@pytest.mark.parametrize("side", [32, 224, 384])
@pytest.mark.parametrize("batch_size", [8, 64, 256, 1024, 2048])
@pytest.mark.parametrize("workers", [1, 2, 8, 64])
def test_what_is_ready_is_bounded_in_bytes(side, batch_size, workers):
    """2 GB or one batch, whichever is more, and no less than one batch."""
    loading = Loading(batch_size, side, workers)
    assert loading.image_bytes == 12 * side**2
    ahead = workers * loading.pieces_ahead * loading.piece
    assert ahead * loading.image_bytes <= max(AHEAD_BYTES, batch_size * loading.image_bytes)
    assert ahead >= batch_size
    assert 1 <= loading.piece <= batch_size


def test_the_papers_batch_on_one_gpu_is_loaded_in_pieces():
    """2048 images of 224 are 1.2 GB: four of them for each of 8 workers would be 39 GB."""
    loading = Loading(2048, 224, 8)
    assert (loading.piece, loading.pieces_ahead) == (410, 1)
    assert loading.image_bytes * loading.piece * 8 < AHEAD_BYTES
    assert (Loading(64, 32, 8).piece, Loading(64, 32, 8).pieces_ahead) == (64, 4)


def test_seeded_leaves_the_generators_as_they_were():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(2).tolist(), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    with seeded(1, 2):
        first = torch.rand(1).item(), np.random.rand()
    with seeded(1, 2):
        assert (torch.rand(1).item(), np.random.rand()) == first
    assert (torch.rand(2).tolist(), np.random.rand()) == expected


def test_shares_of_an_evaluation_are_the_whole():
    shares = [eval_lists(7, 2, share=(rank, 3)) for rank in range(3)]
    assert shares == [[[0, 3], [6]], [[1, 4]], [[2, 5]]]


def test_preprocessing_follows_timm_and_the_official_code():
    ours = preprocessing("nextvit_small", resolution=224)
    assert (ours.crop_pct, ours.interpolation, ours.mean[0]) == (0.875, "bicubic", 0.485)
    clip = preprocessing("timm/vit_base_patch16_clip_224.openai", resolution=224)
    assert clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert preprocessing("nextvit_micro", resolution=32, fills_frame=True).crop_pct == 1.0


def test_a_network_that_timm_tests_at_another_side_has_the_crop_of_that_side():
    """resnet50.a1_in1k: 224 with 0.95, tested at 288 with 1.0."""
    crops = {side: preprocessing("timm/resnet50.a1_in1k", resolution=side) for side in (224, 256, 288)}
    assert {side: steps.crop_pct for side, steps in crops.items()} == {224: 0.95, 256: 0.95, 288: 1.0}
    assert crops[288].resolution == 288
    assert preprocessing("timm/resnet18.tv_in1k", resolution=288).crop_pct == 0.875  # it has no such side


def test_the_eval_transform_crops_the_middle_and_normalizes():
    steps = preprocessing("nextvit_small", resolution=14)
    picture = Image.new("RGB", (64, 32), (0, 0, 0))
    picture.paste((255, 255, 255), (16, 0, 48, 32))  # the middle half is white
    out = eval_transform(steps)(picture)
    assert out.shape == (3, 14, 14)
    white = (1 - torch.tensor(steps.mean)) / torch.tensor(steps.std)
    torch.testing.assert_close(out[:, 7, 7], white)
