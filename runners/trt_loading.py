"""From an engine file to an execution context: which package built it, its log, why it cannot be loaded.

`tensorrt` and `tensorrt_rtx` share one API and write files that do not load in one another. What differs
between versions is looked for by attribute. The names used here are those of tensorrt_rtx 1.7.1; no engine
has been deserialized by them, which needs a driver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runners.runner import RunnerError

PACKAGES = ("tensorrt", "tensorrt_rtx")
KEPT_LINES = 8
REINSTALL = "Install it again: pip install 'deploybench[trt]' for tensorrt_rtx, or pip install tensorrt."
REBUILD = "An engine loads on the compute capability and package version it was built for: build it here."


@dataclass(slots=True)
class Log:
    """Warnings and errors of the runtime, the last ones kept."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.lines = [*self.lines, text.strip()][-KEPT_LINES:]

    def last(self) -> str:
        return " / ".join(self.lines) or "it gave no reason"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deserialized engine with its package; the logger and the runtime must outlive it."""

    trt: Any
    package: str
    engine: Any
    log: Log
    kept: tuple[Any, ...]


def candidates(builder: str) -> tuple[str, ...]:
    """Packages to try: the one that built the engine where that is told (`tensorrt_rtx 1.7.1`), else all."""
    package = builder.partition(" ")[0]
    if package and package not in PACKAGES:
        raise RunnerError(
            "load", f"unknown builder '{builder}'", f"An engine is built by {' or '.join(PACKAGES)}."
        )
    wanted = (package,) if package else PACKAGES
    found = tuple(name for name in wanted if find_spec(name) is not None)
    if not found:
        names = " nor ".join(wanted)
        raise RunnerError(
            "unavailable",
            f"neither {names} is installed" if len(wanted) > 1 else f"{names} is not installed",
            "Install it: pip install 'deploybench[trt]' for tensorrt_rtx, or pip install tensorrt.",
        )
    return found


def load_engine(
    path: Path, packages: Sequence[str], *, import_package: Callable[[str], Any] = importlib.import_module
) -> Loaded:
    """The engine in the first package that takes it.

    Raises RunnerError with what each said: `unavailable` where none can be imported, else `load`.
    """
    data = path.read_bytes()
    said, imported = [], False
    for package in packages:
        try:
            trt = import_package(package)
        except (ImportError, OSError) as error:
            said.append(f"{package} cannot be imported: {error}")
            continue
        imported, log = True, Log()
        logger = _logger(trt, log)
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is not None:
            return Loaded(trt, f"{package} {trt.__version__}", engine, log, (logger, runtime))
        said.append(f"{package} {trt.__version__}: {log.last()}")
    message = f"the engine cannot be loaded: {'; '.join(said)}"
    if not imported:
        raise RunnerError("unavailable", message, REINSTALL)
    raise RunnerError("load", message, REBUILD)


def new_context(loaded: Loaded) -> Any:
    """An execution context. TensorRT-RTX compiles its kernels here, so that is a part of loading.

    For dynamic shapes its default compiles them beside the first inferences and runs others meanwhile, which
    would change the timed work half way: they are compiled before.
    """
    engine = loaded.engine
    specialization = getattr(loaded.trt, "DynamicShapesKernelSpecializationStrategy", None)
    if specialization is not None and hasattr(engine, "create_runtime_config"):
        config = engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context()
    if context is None:
        message = f"no execution context could be made: {loaded.log.last()}"
        kind = "out_of_memory" if "memory" in message.lower() else "load"
        raise RunnerError(kind, message, "Use a smaller batch, fewer streams, or free device memory.")
    return context


def _logger(trt: Any, log: Log) -> Any:
    """An ILogger of that package that fills `log`; TensorRT numbers errors 0 and 1, warnings 2."""
    worst = int(trt.ILogger.Severity.WARNING)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= worst:
                log.add(msg)

    return Logger()
