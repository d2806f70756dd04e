"""A training of two processes, as torchrun starts them, against that of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import training_files as files
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest

ROOT = Path(__file__).parents[2]

DISTRIBUTED = """
import sys, torch
from pathlib import Path
from models.recipe import Recipe
from models.trainer import train
from models.training_request import TrainRequest
torch.set_num_threads(1)

class Quiet:
    def step(self, done, total, *, epoch, loss): pass
    def epoch(self, epoch, *, epochs): pass
    def note(self, text): pass

recipe, output = Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2])
options = (("img_size", 16), ("patch_size", 4))
result = train(TrainRequest("timm/test_vit", recipe, output, options, accumulate=2, save_every=3), Quiet())
assert len(result.epochs) == 1
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
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "script.py"), chosen.model_dump_json(), str(tmp_path / "two")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    options = (("img_size", 16), ("patch_size", 4))
    from_one = train(TrainRequest("timm/test_vit", chosen, tmp_path / "one", options), new_watcher())
    one, two = (files.read(tmp_path / name / files.LAST) for name in ("one", "two"))
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, atol=5e-5, rtol=1e-3, msg=name)
    assert two.facts["epoch"]["train_loss"] == pytest.approx(from_one.epochs[0].train_loss, rel=1e-4)
    assert two.facts["epoch"]["val_loss"] == pytest.approx(from_one.epochs[0].val_loss, rel=1e-3)
