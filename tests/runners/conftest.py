"""Small real artifacts, and jobs on them, for tests that start real measuring processes."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from runners import simulated
from runners.measurement import Job, Timing
from runners.runner import Array

# Short on purpose: these tests check what happens, not how long it takes.
QUICK = Timing(round_seconds=0.05, warmup_seconds=0.02, max_warmup_seconds=0.4, deadline_seconds=60.0)


@dataclass(frozen=True)
class Files:
    """An artifact on disk as a Job wants it."""

    path: Path
    sha256: str
    tensors: Path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_tensors(path: Path, inputs: list[Array], references: list[Array]) -> Path:
    arrays = {f"input_{i}": value for i, value in enumerate(inputs)}
    np.savez(path, **arrays, **{f"reference_{i}": value for i, value in enumerate(references)})
    return path


def conv_graph() -> Any:
    """Two 3x3 convolutions with ReLU on (1, 3, 24, 24)."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    first = random.standard_normal((8, 3, 3, 3)).astype(np.float32)
    second = (0.1 * random.standard_normal((8, 8, 3, 3))).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    shapes = {"x": [1, 3, 24, 24], "y": [1, 8, 24, 24]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shapes.items()}
    graph = helper.make_graph(nodes, "conv", [values["x"]], [values["y"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def matmul_graph() -> Any:
    """(1, 64) times (64, 32)."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(2).standard_normal((64, 32)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "matmul", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save_onnx(folder: Path, model: Any, *, inputs: int = 4) -> Files:
    """The file, its inputs, and references from onnx's own evaluator, which shares no code with a runtime."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(model, path)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    random = np.random.default_rng(3)
    values = [random.standard_normal(shape).astype(np.float32) for _ in range(inputs)]
    evaluator = ReferenceEvaluator(model)
    references = [evaluator.run(None, {"x": value})[0] for value in values]
    return Files(path, sha256(path), write_tensors(folder / "model.npz", values, references))


@pytest.fixture(scope="session")
def conv_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return save_onnx(tmp_path_factory.mktemp("conv"), conv_graph())


@pytest.fixture(scope="session")
def matmul_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return save_onnx(tmp_path_factory.mktemp("matmul"), matmul_graph())


@pytest.fixture
def lock_dir(tmp_path: Path) -> Path:
    """A folder of its own for the device lock, so that suites running beside the tests do not matter."""
    return tmp_path / "locks"


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(lock_dir: Path) -> MakeJob:
    """`make_job(backend, files, **overrides)`; `options` are added to the lock folder."""

    def make(backend: str, files: Files, *, options: dict[str, Any] | None = None, **overrides: Any) -> Job:
        values = {
            "case_id": f"case-{backend}",
            "backend": backend,
            "device": "cpu",
            "threads": 1,
            "compute_unit": "",
            "precision": "fp32",
            "artifact": files.path,
            "artifact_sha256": files.sha256,
            "tensors": files.tensors,
            "tolerance": 1e-4,
            "timing": QUICK,
            "round_index": 0,
            "position": 0,
            "options": {"lock_dir": str(lock_dir), **(options or {})},
        }
        return Job(**{**values, **overrides})

    return make


@pytest.fixture
def simulate(tmp_path: Path, make_job: MakeJob) -> MakeJob:
    """`simulate(job_overrides..., fault=..., median_ns=..., ...)`: a job on a written simulation."""

    def make(
        *,
        options: dict[str, Any] | None = None,
        timing: Timing = QUICK,
        round_index: int = 0,
        **settings: Any,
    ) -> Job:
        simulation = simulated.Simulation(**settings)
        written = simulated.write(tmp_path / "simulations", simulation, name=f"s{abs(hash(simulation))}")
        files = Files(written.path, written.sha256, written.tensors)
        return make_job("simulated", files, options=options, timing=timing, round_index=round_index)

    return make


def _load(name: str) -> ModuleType:
    """A helper module beside this file: test folders are no packages."""
    spec = importlib.util.spec_from_file_location(f"runners_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stand_in_cuda() -> ModuleType:
    """A GPU in memory, with a virtual clock."""
    return _load("stand_in_cuda")


@pytest.fixture(scope="session")
def stand_in_trt() -> ModuleType:
    """An engine API over that GPU."""
    return _load("stand_in_trt")
