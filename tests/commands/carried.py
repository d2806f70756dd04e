"""Artifacts for the tests of bundles: put into the cache as if converted, small, and without a toolchain."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np

from commands.config import load
from commands.plan import Overrides, make
from converters.artifact import Artifact, ConversionRequest, TensorInfo
from converters.cache import ArtifactCache
from converters.keys import cache_key
from reports.store import Store
from runners.measurement import Failure

SUFFIX = {"onnx": ".onnx", "exported_program": ".pt2", "engine": ".engine"}


def relu_graph(request: ConversionRequest) -> bytes:
    """An ONNX file that ONNX Runtime runs: the larger of its input and 0."""
    import onnx

    shape = request.model.input_shape(request.batch_size)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def no_graph(request: ConversionRequest) -> bytes:
    """Bytes that no runtime loads, another content for every request."""
    return f"engine of {request.model.name} {request.target}".encode()


def put(
    project, suite: str, backend: str, content: Callable[[ConversionRequest], bytes], **overrides
) -> list[Artifact]:
    """An artifact for every case of the suite, where `bundle` and `run` look for it."""
    plan = make(load(project.config), suite, Overrides(backends=(backend,), **overrides), {})
    cache = ArtifactCache(project.folder / "artifacts")
    return [_stored(cache, request, content(request)) for request in plan.requests().values()]


def _stored(cache: ArtifactCache, request: ConversionRequest, content: bytes) -> Artifact:
    shape = request.model.input_shape(request.batch_size)
    key = cache_key(request)

    def build(folder: Path) -> Artifact:
        path, tensors = folder / f"model{SUFFIX[request.kind]}", folder / "tensors.npz"
        path.write_bytes(content)
        random = np.random.default_rng(0)
        inputs = [random.standard_normal(shape).astype(np.float32) for _ in range(2)]
        arrays = {f"input_{i}": value for i, value in enumerate(inputs)}
        np.savez(tensors, **arrays, **{f"reference_{i}": np.maximum(v, 0) for i, v in enumerate(inputs)})
        return Artifact(
            kind=request.kind,
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            key=key,
            model=request.model,
            batch_size=request.batch_size,
            precision=request.precision,
            fused=request.fused,
            inputs=(TensorInfo("x", "float32", shape),),
            outputs=(TensorInfo("y", "float32", shape),),
            tensors=tensors,
            tensors_sha256=hashlib.sha256(tensors.read_bytes()).hexdigest(),
            seed=0,
            params_m=1.0,
            gmacs=0.1,
            steps=(),
            target=request.target,
            build=request.build,
            flavour=request.flavour,
        )

    return cache.store(key, build)


def fail_first_case(path: Path) -> str:
    """The first case of the finished run 1 has a crash in place of its rounds; the case's id."""
    with Store(path) as store:
        case_id = store.load_run(1).results[0].case.id
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM records WHERE case_id = ?", (case_id,))
        db.close()
        store.append(1, case_id, Failure("crashed", "signal 11", signal=11, round_index=0), artifact=None)
    return case_id
