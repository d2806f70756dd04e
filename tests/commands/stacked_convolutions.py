"""ONNX files of as many convolutions as a test wants, put into a cache as artifacts of any case."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from converters.artifact import Artifact, TensorInfo
from converters.cache import ArtifactCache
from converters.files import sha256_of

SIDE = 8
CHANNELS = 384


def write_network(folder: Path, layers: int, key: str) -> Path:
    """So many convolutions of 8 x 8 x 384 in a row, with the key stamped into the file as a real one has."""
    weight = np.full((CHANNELS, CHANNELS, 1, 1), 1.0 / CHANNELS, dtype=np.float32)
    names = ["input", *(f"x{i}" for i in range(1, layers)), "output"]
    nodes = [onnx.helper.make_node("Conv", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    shape = [1, CHANNELS, SIDE, SIDE]
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("input", "output")]
    graph = onnx.helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "w")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key="deploybench.key", value=key)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def put(cache: ArtifactCache, key: str, case, layers: int, *, off: float = 0.0) -> Artifact:
    """Such a network as the artifact of a case, with inputs and outputs to check it with, which are `off`."""

    def build(folder: Path) -> Artifact:
        path, tensors = write_network(folder, layers, key), folder / "tensors.npz"
        random = np.random.default_rng(0)
        inputs = [random.standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32) for _ in range(4)]
        named = {f"input_{i}": value for i, value in enumerate(inputs)}
        for i, value in enumerate(inputs):  # every output channel is the mean over the input's
            named[f"reference_{i}"] = off + np.broadcast_to(value.mean(axis=1, keepdims=True), value.shape)
        np.savez(tensors, **named)
        info = TensorInfo("input", "float32", (1, CHANNELS, SIDE, SIDE))
        return Artifact(
            kind="onnx", path=path, sha256=sha256_of(path), size_bytes=path.stat().st_size, key=key,
            model=case.model, batch_size=1, precision="fp32", fused=True, inputs=(info,),
            outputs=(replace(info, name="output"),), tensors=tensors, seed=0,
            tensors_sha256=sha256_of(tensors), params_m=0.1, gmacs=0.01, steps=(),
        )  # fmt: skip

    return cache.store(key, build)
