"""What this machine has for TensorRT engines: a builder and its targets, a GPU, a CUDA binding."""

from __future__ import annotations

import importlib
from importlib import metadata

from converters import tensorrt_package
from runners import environment


def builders() -> dict[str, str]:
    """Installed packages that build engines, with their versions as their metadata tell them."""
    return {package: _version(package) for package in tensorrt_package.installed()}


def targets(package: str) -> tuple[str, ...]:
    """What a package builds for without having that GPU; none where it builds for the GPU here alone.

    The package is imported: its own list counts. Raises what a broken package raises.
    """
    return tensorrt_package.targets(importlib.import_module(package))


def gpus() -> list[str]:
    """`NVIDIA L4 (sm89, driver 570.0)`."""
    return [f"{gpu['name']} ({gpu['target']}, driver {gpu['driver']})" for gpu in environment.describe_gpus()]


def binding() -> str:
    """The CUDA binding that a runner would use, with its version; empty where none is installed."""
    from runners import cuda  # brings NumPy, which listing does without

    return next((f"{name} {_version(name)}".strip() for name in cuda.installed()), "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # importable without metadata, such as a source tree on the path
        return ""
