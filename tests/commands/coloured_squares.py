"""Images whose classes are colours, a file that tells colours apart, and a small network converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 16
COLOURS = {"blue": (20, 20, 220), "green": (20, 220, 20), "red": (220, 20, 20)}
CHANNELS = {"blue": 2, "green": 1, "red": 0}
EACH, WRONG = 6, {"blue": 0, "green": 1, "red": 2}


def make_images(folder: Path) -> Path:
    """Squares of one colour, six a class; one of the green ones and two of the red ones are blue."""
    for split in ("train", "val"):
        for name in COLOURS:
            (folder / split / name).mkdir(parents=True)
            for number in range(EACH):
                colour = COLOURS["blue" if number < WRONG[name] else name]
                Image.new("RGB", (20, 24), colour).save(folder / split / name / f"{number}.png")
    return folder


def colour_graph(path: Path, *, batch: int | str = 4) -> Path:
    """The mean of each channel, in the order of the classes: its prediction is the colour."""
    weight = np.zeros((3, len(CHANNELS)), np.float32)
    for place, channel in enumerate(CHANNELS.values()):
        weight[channel, place] = 1
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        ],
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(CHANNELS)])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(weight, "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def converted_network(
    folder: Path, precision: str, *more: str, to: str = "onnx", batch_size: int = 4
) -> Path:
    """timm's smallest network with three outputs and seeded weights, and the record of its conversion."""
    from bench import main

    (folder / "convert.toml").write_text("schema = 1\n[suites]\n")
    asked = ["convert", "timm/test_resnet", "--to", to, "-o", str(folder), "--resolution", "32"]
    asked += ["--option", "num_classes=3", "--batch-size", str(batch_size), "--precision", precision, *more]
    assert main([*asked, "--config", str(folder / "convert.toml")]) == 0
    (file,) = (path for path in folder.glob("timm-*") if path.suffix != ".json")
    return file
