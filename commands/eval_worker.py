"""The process that runs an evaluated file: batches in on stdin, outputs out on what was its stdout.

`python -m commands.eval_worker`. The first line in is a job; the answer is `{"ready": TOOL}`. Then frames in
both directions: a line `{"shape": [...]}` and that many fp32 values. `{"error": TEXT, "kind": KIND}` ends it.
A runtime that crashes costs this process, and not the one that counts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from converters.artifact import ConversionError
from converters.parity import Array
from converters.quiet import descriptors_are_private
from models.answering import private_stdout
from models.errors import ModelError
from models.spec import ModelSpec
from runners.runner import RunnerError

Run = Callable[[Array], Array]


class RefusedError(Exception):
    """A file that cannot be run, in words for its user."""


# What a file or a request is at fault for.
TOLD = (RefusedError, RunnerError, ModelError, ConversionError)


def main() -> None:
    """Serve one file until stdin ends."""
    stdout = private_stdout()
    replies = stdout.buffer  # which would be closed with `stdout`
    descriptors_are_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    try:
        run, tool = load(json.loads(sys.stdin.buffer.readline()))
        _line(replies, {"ready": tool})
        while header := sys.stdin.buffer.readline():
            images = read_array(sys.stdin.buffer, json.loads(header)["shape"])
            write_array(replies, run(images))
    except Exception as error:  # a runtime raises types of its own at what a file holds
        _line(replies, {"error": _said(error), "kind": _kind(error)})
    os._exit(0)  # a runtime's teardown may crash, when all is done


def load(job: Mapping[str, Any]) -> tuple[Run, str]:
    """A function from images to outputs (B, classes), and what runs it."""
    backend = job["backend"]
    if backend == "eager":
        return _eager(job)
    if backend == "interpreter":
        return _interpreted(Path(job["path"]))
    if backend == "rounding":
        return _rounding(Path(job["path"]))
    return _by_runner(job)


def _eager(job: Mapping[str, Any]) -> tuple[Run, str]:
    """The network itself in fp32, before any fusion."""
    import torch

    from converters.source import run_eager
    from models import instantiate

    checkpoint = Path(job["checkpoint"]) if job["checkpoint"] else None
    net = instantiate(ModelSpec.from_dict(job["model"]), checkpoint=checkpoint).eval()
    return lambda images: run_eager(net, [images])[0], f"torch {torch.__version__}, eager fp32"


def _interpreted(path: Path) -> tuple[Run, str]:
    from converters.mil_interpreter import PackageError, UnsupportedOpError, run_program
    from converters.mil_interpreter import load as load_program

    refusals = (PackageError, UnsupportedOpError)
    try:
        program = load_program(path)
    except refusals as error:
        raise RefusedError(str(error)) from error

    def run(images: Array) -> Array:
        try:
            return run_program(program, [images], rounding=True)[0]
        except refusals as error:
            raise RefusedError(str(error)) from error

    return run, "interpreter of Core ML programs, not Apple's kernels"


def _rounding(path: Path) -> tuple[Run, str]:
    import onnxruntime

    from converters import foreign_onnx, onnx_graph, onnx_rounding

    session = onnx_graph.open_session(onnx_graph.serialize(onnx_rounding.twin(foreign_onnx.load(path))))
    name = session.get_inputs()[0].name
    tool = f"onnxruntime {onnxruntime.__version__}, every value rounded as the file's types say"
    return lambda images: session.run(None, {name: images})[0], tool


def _by_runner(job: Mapping[str, Any]) -> tuple[Run, str]:
    """By the runner that times such files: its input is changed where it lies, or fed where it is copied."""
    from pkgutil import resolve_name

    from runners import RUNNERS
    from runners.measurement import Job, Timing

    runner = resolve_name(RUNNERS[job["backend"]])()
    buffer = np.zeros(job["shape"], job["dtype"])
    runner.load(
        Job(
            "", job["backend"], job["device"], job["threads"], "", _asked(job), Path(job["path"]), "",
            Path(), 0.0, Timing(), 0, 0, options=job["options"],
        ),
        [buffer],
    )  # fmt: skip
    feed = getattr(runner, "feed", None)

    def run(images: Array) -> Array:
        np.copyto(buffer, images, casting="same_kind")
        if feed is not None:
            feed(0, buffer)
        output: Array = runner.outputs(0)[0]
        return output

    return run, str(runner.describe().runtime)


def _asked(job: Mapping[str, Any]) -> str:
    """The precision to ask a runner for: of a foreign ONNX file it knows no more than its input's type."""
    if job["backend"] != "onnxruntime":
        return str(job["precision"])
    import onnx

    from runners.ort_session import COMPUTES

    proto = onnx.load(job["path"], load_external_data=False)
    if any(entry.key == COMPUTES for entry in proto.metadata_props):
        return str(job["precision"])
    return {"float32": "fp32", "float16": "fp16"}[job["dtype"]]


def read_array(stream: BinaryIO, shape: list[int]) -> Array:
    """fp32 values of that shape. Raises EOFError where the stream ends before."""
    wanted = 4 * int(np.prod(shape))
    data = stream.read(wanted)
    if len(data) != wanted:
        raise EOFError(f"{len(data)} of {wanted} bytes")
    return np.frombuffer(data, "<f4").reshape(shape)


def write_array(stream: BinaryIO, values: Array) -> None:
    wide = np.ascontiguousarray(values, "<f4")
    stream.write(json.dumps({"shape": list(wide.shape)}).encode() + b"\n" + wide.tobytes())
    stream.flush()


def _line(stream: BinaryIO, value: Mapping[str, Any]) -> None:
    stream.write(json.dumps(value).encode() + b"\n")
    stream.flush()


def _kind(error: Exception) -> str:
    """`unavailable`, `bad_input`, or `failed` for what nobody foresaw."""
    if isinstance(error, RunnerError):
        return "unavailable" if error.kind == "unavailable" else "bad_input"
    return "bad_input" if isinstance(error, TOLD) else "failed"


def _said(error: Exception) -> str:
    advice = f" {error.advice}" if isinstance(error, RunnerError) and error.advice else ""
    text = f"{error}" if isinstance(error, TOLD) else f"{type(error).__name__}: {error}"
    return f"{text[:1500]}{advice}"


if __name__ == "__main__":
    main()
