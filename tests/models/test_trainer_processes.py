"""A training of two processes, as torchrun starts them: against that of one, killed, and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from models import training_files as files
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

DISTRIBUTED = """
import json, sys, torch
from pathlib import Path
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest
torch.set_num_threads(1)
losses = []

class Keeps:
    def step(self, done, total, *, epoch, loss): losses.append(loss)
    def epoch(self, epoch, *, epochs): pass
    def note(self, text): pass

recipe, output = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2])
options = (("img_size", 16), ("patch_size", 4))
result = train(TrainRequest("timm/test_vit", recipe, output, options, accumulate=2, save_every=3), Keeps())
assert len(result.epochs) == 1
if losses:  # the first process is told
    output.with_suffix(".json").write_text(json.dumps(losses))
"""


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, new_watcher):
    """gloo on the CPU; a network without BatchNorm, whose statistics are each process's own."""
    chosen = Recipe(
        resolution=16,
        epochs=1,
        batch_size=240,
        lr=1e-3,
        warmup_epochs=0,
        rand_augment="rand-m5",
        ema_decay=0.5,
    )
    (tmp_path / "script.py").write_text(DISTRIBUTED)
    command = [*TORCHRUN, str(tmp_path / "script.py"), chosen.model_dump_json(), str(tmp_path / "two")]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    options = (("img_size", 16), ("patch_size", 4))
    watcher = new_watcher()
    from_one = train(TrainRequest("timm/test_vit", chosen, tmp_path / "one", options), watcher)
    one, two = (files.read(tmp_path / name / files.LAST) for name in ("one", "two"))
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, atol=5e-5, rtol=1e-3, msg=name)
    assert two.facts["epoch"]["train_loss"] == pytest.approx(from_one.epochs[0].train_loss, rel=1e-4)
    assert json.loads((tmp_path / "two.json").read_text()) == pytest.approx(watcher.losses, rel=1e-3)
    assert two.facts["epoch"]["val_loss"] == pytest.approx(from_one.epochs[0].val_loss, rel=1e-3)


GATHERED = """
import json, sys, torch
import numpy as np
from pathlib import Path
from models.errors import DataError
from models.image_data import ImageData
from models.image_loading import Batch
from models.processes import joined
from models.unreadable_images import UnreadableImages

data = ImageData("many", "val", ("a",), np.zeros(200, dtype=np.int64), ("image",) * 200)
answers = []
with joined("cpu") as processes:
    for found in json.loads(sys.argv[2]):
        notes = []
        images = UnreadableImages((data,), processes, notes.append)
        reasons = tuple((index, f"image {index}") for index in found[processes.rank])
        images.add(Batch(torch.empty(0), torch.empty(0), reasons), "val")
        try:
            images.gather()
            answers.append([sorted(images.reasons), len(notes)])
        except DataError as error:
            answers.append(str(error).splitlines()[0])
    Path(sys.argv[1], f"{processes.rank}.json").write_text(json.dumps(answers))
"""


def test_unreadable_images_are_counted_over_all_processes(tmp_path):
    """Of 200 images two may be left out: one in each process, but not two in each if one is the same."""
    (tmp_path / "script.py").write_text(GATHERED)
    found = [[[0], [1]], [[0, 1], [1, 0]], [[0, 1], [0, 2]]]
    command = [*TORCHRUN, str(tmp_path / "script.py"), str(tmp_path), json.dumps(found)]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    for rank in range(2):
        one, same, more = json.loads((tmp_path / f"{rank}.json").read_text())
        assert one == same == [["image 0", "image 1"], 2]
        assert more == "many: 3 of 200 images of val cannot be read, more than 1%: repair or remove them:"


def bench_train(folder: Path, out: str, *options: str) -> list[str]:
    """Two processes of `bench.py train` on a network with BatchNorm, stochastic depth and all draws."""
    quick = ("--epochs", "3", "--resolution", "16", "--batch-size", "20", "--workers", "1", "--seed", "1")
    draws = ("--set", "warmup_epochs=0", "--set", "rand_augment=rand-m9-mstd0.5-inc1", "--set", "cutmix=1.0")
    command = [*TORCHRUN, str(ROOT / "bench.py"), "train", "--preset", "digits", "--data", str(folder)]
    return [*command, *quick, *draws, "-o", str(folder.parent / out), "--save-every", "1", *options]


def kill_after(command: Sequence[str], state: Path, steps: int) -> None:
    """Start it, and end all its processes as a machine that loses power does, once `steps` are saved."""
    running = psutil.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (state.exists() and files.read(state).facts["step"] >= steps):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = [*running.children(recursive=True), running]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=30)


def told(state: files.Saved) -> list[dict[str, object]]:
    """What each epoch gave, without what a machine makes of it."""
    of_the_machine = {"images_per_second", "peak_memory_bytes"}
    return [{name: each[name] for name in each.keys() - of_the_machine} for each in state.facts["epochs"]]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_of_the_command_line_killed_and_resumed(stripes, tmp_path, precision):
    """40 images are five steps an epoch, 15 in all; what was resumed ends at the numbers of the unbroken."""
    data = tmp_path / "data"
    data.symlink_to(stripes)
    options = ("--batch-size", "8", "--precision", precision)
    whole = bench_train(data, "whole", *options, "--json")
    done = subprocess.run(whole, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)  # one, of the first process
    assert [epoch["step"] for epoch in document["epochs"]] == [5, 10, 15]

    broken = bench_train(data, "broken", *options)
    kill_after(broken, tmp_path / "broken" / files.STATE, steps=1)
    step = files.read(tmp_path / "broken" / files.STATE).facts["step"]
    assert 1 <= step < 15
    subprocess.run([*broken, "--resume"], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    for name in (files.STATE, files.LAST, files.BEST):
        one, two = (files.read(tmp_path / run / name) for run in ("whole", "broken"))
        assert one.tensors.keys() == two.tensors.keys()
        assert [key for key in one.tensors if not torch.equal(one.tensors[key], two.tensors[key])] == []
    epochs = [told(files.read(tmp_path / run / files.STATE)) for run in ("whole", "broken")]
    assert len(epochs[0]) == 3
    assert epochs[0] == epochs[1]


@pytest.mark.slow
def test_two_processes_of_the_command_line_name_each_others_unreadable_images(tmp_path):
    """Of 400 images of val, four may be left out; image i is seen by process i % 2."""
    for split, count in (("train", 20), ("val", 200)):
        for shade, name in enumerate(("dark", "light")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "data" / split / name / f"{number:03}.png"
                Image.new("RGB", (12, 12), (200 * shade,) * 3).save(path)
    bad = [tmp_path / "data/val/dark" / f"{number:03}.png" for number in range(6)]
    for path in bad[:4]:
        path.write_bytes(b"no image")
    command = bench_train(tmp_path / "data", "out", "--json")
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    left_out = json.loads(done.stdout)["unreadable"]
    assert sorted(text.partition(":")[0] for text in left_out) == [str(path) for path in bad[:4]]
    assert done.stderr.count("left out, as it cannot be read") == 4

    for path in bad[4:]:
        path.write_bytes(b"no image")
    refused = subprocess.run(
        [*command, "-o", str(tmp_path / "other")], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "5 of 400 images of val cannot be read, more than 1%" in refused.stderr
