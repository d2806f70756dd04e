"""`python bench.py doctor`: what this machine can build and time, and the fix for what it cannot."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from commands import OK, SOME_FAILED, gpu_quietness, options, quietness
from commands.finding import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_store(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """0 where the default backend works here, 1 where it does not."""
    findings = [*_backends(), *_engines(), *quietness.findings(), *gpu_quietness.findings(), *_places(args)]
    if args.json:
        print(json.dumps({"schema": 1, "findings": [asdict(finding) for finding in findings]}))
    else:
        _print(findings)
    broken = any(f.state == "missing" and f.area in ("backend onnxruntime", "store") for f in findings)
    return SOME_FAILED if broken else OK


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.area) for finding in findings)
    for finding in findings:
        print(f"{finding.state:<8} {finding.area:<{width}}  {finding.message}")
        if finding.fix:
            print(f"{'':<8} {'':<{width}}  fix: {finding.fix}")


def _backends() -> Iterator[Finding]:
    from commands.devices import devices_of, missing
    from runners import backend_info, backend_names

    for name in backend_names():
        if not backend_info(name).real:
            continue
        for device in devices_of(backend_info(name)):
            area = f"backend {name}" if device == "cpu" else f"backend {name} on {device}"
            reason, _, fix = missing(name, device).partition("; ")
            if reason:
                yield Finding(area, "missing", reason, fix)
            else:
                yield Finding(area, "ok", f"{backend_info(name).description}: can be timed here")


def _engines() -> Iterator[Finding]:
    """Building engines needs a package and no GPU; timing them needs a GPU and a binding."""
    from commands import engines

    found = engines.builders()
    if not found:
        message = "no package that builds TensorRT engines is installed (tensorrt or tensorrt_rtx)"
        yield Finding("engine builder", "missing", message, "pip install '.[trt]'")
    told = [_builder(package, version) for package, version in found.items()]
    yield from told
    if [finding.state for finding in told] == ["missing", "ok"]:
        first, second = found
        message = f"{first} is broken, so {second} builds for the GPU here too, where it knows that GPU"
        yield Finding("engine builder in use", "note", message)
    gpus = engines.gpus()
    if gpus:
        yield Finding("gpu", "ok", ", ".join(gpus))
    else:
        fix = "build here, then `bundle`; `run-bundle` on a machine with a GPU; `import` here"
        yield Finding("gpu", "missing", "no NVIDIA GPU on this machine: engines are built, not timed", fix)
    binding = engines.binding()
    if binding:
        yield Finding("cuda binding", "ok", f"{binding} is what runners use")
    else:
        message = "none is installed (cuda-bindings or pycuda): no engine can be timed"
        yield Finding("cuda binding", "missing", message, "pip install '.[trt]'")


def _builder(package: str, version: str) -> Finding:
    from commands import engines

    name = f"{package} {version}".strip()
    try:
        targets = engines.targets(package)
    except Exception as error:  # a library that is missing or of another version raises anything
        fix = f"pip install --force-reinstall {package}"
        return Finding("engine builder", "missing", f"{name} cannot be imported: {error}", fix)
    known = f"for {', '.join(targets)}, with or without a GPU" if targets else "for the GPU here alone"
    return Finding("engine builder", "ok", f"{name} builds {known}")


def _places(args: argparse.Namespace) -> Iterator[Finding]:
    config, base = options.load_config(args)
    store = options.store_path(args, config, base)
    for area, folder in (("store", store.parent), ("artifacts", base / config.paths.artifacts)):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if os.access(existing, os.W_OK | os.X_OK):
            yield Finding(area, "ok", f"{_free_gib(existing):.1f} GiB free for {folder}")
        else:
            yield Finding(area, "missing", f"{existing} is not writable", "name another folder in bench.toml")


def _free_gib(path: Path) -> float:
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize / 2**30
