"""`bench.py train` on the command line: what it prints and leaves, and every bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

QUICK = ("--epochs", "2", "--resolution", "8", "--set", "warmup_epochs=0", "--batch-size", "360")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for shade, name in enumerate(("dark", "light")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(4):
                colour = (200 * shade + number,) * 3
                Image.new("RGB", (12, 12), colour).save(tmp_path / "images" / split / name / f"{number}.png")
    return tmp_path / "images"


def test_digits_are_learned_from_and_a_broken_run_is_resumed(project, tmp_path):
    out = tmp_path / "run"
    answer = project.bench("train", *QUICK, "-o", str(out), "--json", config=False)
    assert answer.code == 0
    document = json.loads(answer.out)
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2]
    assert document["recipe"]["batch_size"] == 360
    assert Path(document["best"]).is_file()
    assert "epoch 2 of 2: loss" in answer.err
    assert "images/s, peak" in answer.err
    again = project.bench("train", *QUICK, "-o", str(out), config=False)
    assert again.code == 2
    assert again.err == f"error: {out}: holds a training: --resume goes on with it, or name another folder\n"
    resumed = project.bench("train", *QUICK, "-o", str(out), "--resume", config=False)
    assert resumed.code == 0
    assert f"last: top-1 {100 * document['epochs'][-1]['top1']:.2f} %: {out}/last.safetensors" in resumed.out


def test_its_curves_are_read_back(project, tmp_path):
    """Every record of the event file, whose form is TensorBoard's: length, sum, event, sum."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    options = ("--epochs", "1", "--resolution", "8", "--set", "warmup_epochs=0", "--batch-size", "130")
    assert project.bench("train", *options, "-o", str(tmp_path / "run"), config=False).code == 0
    (path,) = (tmp_path / "run").glob("events.out.tfevents.*")
    content, curves = path.read_bytes(), {}
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            curves.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length :]
    assert [step for step, _ in curves["val/top1"]] == [11]
    assert [step for step, _ in curves["train/loss"]] == [10]
    assert {
        "epoch/images_per_second",
        "epoch/peak_memory_bytes",
        "train/lr",
        "train/grad_norm",
    } <= curves.keys()


def test_a_folder_and_a_model_of_timm(project, folder, tmp_path):
    out = tmp_path / "run"
    options = ["--model", "timm/test_vit", "--option", "img_size=16", "--option", "patch_size=4"]
    options += ["--resolution", "16", "--epochs", "1", "--set", "warmup_epochs=0", "--batch-size", "8"]
    answer = project.bench(
        "train", "--data", str(folder), *options, "--workers", "1", "-o", str(out), config=False
    )
    assert answer.code == 0, answer.err
    assert "best: top-1" in answer.out


def test_weights_go_on_into_a_conversion(project, tmp_path):
    out = tmp_path / "run"
    assert project.bench("train", *QUICK, "-o", str(out), config=False).code == 0
    checkpoint = ["--checkpoint", str(out / "best.safetensors"), "--resolution", "16"]
    target = ["--to", "onnx", "-o", str(tmp_path / "onnx")]
    assert project.bench("convert", "nextvit_micro", *target, *checkpoint).code == 0
    assert list((tmp_path / "onnx").glob("*.onnx"))


def test_weights_of_other_classes_are_fine_tuned(project, tmp_path):
    import models
    from models import training_files

    net = models.build("nextvit_micro", num_classes=1000)
    training_files.save(tmp_path / "start.safetensors", net.state_dict(), {})
    options = (*QUICK, "--from", str(tmp_path / "start.safetensors"))
    answer = project.bench("train", *options, "-o", str(tmp_path / "run"), "--json", config=False)
    assert answer.code == 0, answer.err
    tensors = ["head.weight", "head.bias"]
    expected = {"tensors": tensors, "file_classes": 1000, "classes": 10}
    assert json.loads(answer.out)["new_classifier"] == expected
    said = "begun with a new classifier of 10 classes instead of 1000 (head.weight, head.bias)"
    assert f"{tmp_path}/start.safetensors: {said}" in answer.err
    shown = project.bench("train", *options, "-o", str(tmp_path / "run"), "--resume", config=False)
    assert said in shown.out


def test_weights_of_another_model_are_not(project, tmp_path):
    import models
    from models import training_files

    net = models.build("blocknet/ncb", num_classes=1000)
    training_files.save(tmp_path / "start.safetensors", net.state_dict(), {})
    options = (*QUICK, "--from", str(tmp_path / "start.safetensors"), "-o", str(tmp_path / "run"))
    answer = project.bench("train", *options, config=False)
    assert answer.code == 2
    assert "does not fit the network: build the model it was saved from" in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such folder: give a folder with train/CLASS/*.jpg"),
        (["--preset", "nextvitt"], "unknown preset 'nextvitt': did you mean nextvit"),
        (["--model", "nextvit_smal"], "unknown model 'nextvit_smal': did you mean nextvit_small"),
        (["--resolution", "4"], "nextvit_micro: resolution=4: must be an integer of at least 8"),
        (["--epochs", "0"], "epochs=0: Input should be greater than or equal to 1"),
        (["--epochs", "few"], "epochs='few': Input should be a valid integer"),
        (["--set", "epoch=3"], "unknown setting 'epoch': did you mean epochs"),
        (["--set", "epochs"], "--set: 'epochs' is not written like NAME=VALUE"),
        (["--set", "lr=1e-3", "--lr", "1e-3"], "--set: 'lr' is given twice"),
        (["--accumulate", "0"], "--accumulate: '0' is not a whole number of at least 1"),
        (["--accumulate", "7"], "batch_size=64: does not fill 1 process x 7 parts"),
        (["--batch-size", "5000"], "batch_size=5000: digits has 1433 images to train on"),
        (["--teacher", "timm/resnet18"], "a teacher needs its weights"),
        (["--teacher", "timm/resnet", "--teacher-checkpoint", "x.pth"], "unknown model 'timm/resnet'"),
        (["--teacher", "timm/resnet18", "--teacher-checkpoint", "x.pth"], "x.pth: no such file"),
        (["--from", "x.safetensors"], "x.safetensors: no such file"),
        (
            ["--option", "num_classes=3"],
            "nextvit_micro: num_classes: the images have 10: leave the option out",
        ),
        (["--resume"], "holds no training to go on with (state.safetensors): leave out --resume"),
        (["--sed", "1"], "unknown option --sed"),
        pytest.param(
            ["--device", "cuda"],
            "--device cuda: torch sees no NVIDIA GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_nothing_is_written(project, tmp_path, options, message):
    answer = project.bench("train", "-o", str(tmp_path / "run"), *options, config=False)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith("error: ")
    assert answer.out == ""
    assert not (tmp_path / "run").exists()


def test_a_class_that_only_val_has(project, folder, tmp_path):
    (folder / "val/grey").mkdir()
    answer = project.bench("train", "--data", str(folder), "-o", str(tmp_path / "run"), config=False)
    assert answer.code == 2
    assert f"{folder}/val: class 'grey' is not in {folder}/train: remove it, or add it to train" in answer.err


def test_weights_that_are_not_finite_stop_it(project, tmp_path):
    import models
    from models import training_files

    net = models.build("nextvit_micro")
    net.head.bias.data.fill_(float("nan"))
    training_files.save(tmp_path / "nan.safetensors", net.state_dict(), {})
    options = (*QUICK, "--from", str(tmp_path / "nan.safetensors"), "-o", str(tmp_path / "run"))
    answer = project.bench("train", *options, config=False)
    assert answer.code == 1
    assert "error: the loss is not finite in epoch 1, step 1 of 6: lower lr" in answer.err
    assert answer.out == ""
    assert not (tmp_path / "run/best.safetensors").exists()
