"""The machine that a result was taken on: what the report shows, and an id by which results are grouped."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any

from models.spec import digest
from runners import cgroups, memory

ROOT = Path(__file__).resolve().parent.parent
CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")
GPU_DRIVER = Path("/dev/nvidiactl")
PACKAGES = (
    *("deploybench", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxsim", "onnxruntime"),
    *("onnxruntime-gpu", "openvino", "tensorrt", "tensorrt_rtx", "coremltools", "numpy"),
)


def describe_machine() -> dict[str, Any]:
    """Everything about this machine that a reader of its latencies wants to know; plain JSON values.

    No host or user name is in it. What the platform does not tell is absent or empty.
    """
    return {
        "fingerprint": fingerprint(),
        "cpu": describe_cpu(),
        "memory": describe_memory(),
        "gpus": describe_gpus(),
        "system": describe_system(),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": describe_packages(),
        "revision": describe_revision(),
    }


@functools.cache
def fingerprint() -> str:
    """16 hex digits that stay the same for this machine: CPU model, cores, memory and a hashed machine id."""
    return digest([_cpu_model(), os.cpu_count(), round(_total_memory_bytes() / 2**30), _hashed_machine_id()])[
        :16
    ]


def describe_cpu() -> dict[str, Any]:
    """Model, cores, SMT, what rules the clock, caches, NUMA nodes and what this process may use."""
    base, quota = CPUS / "cpu0", cgroups.smallest_quota()
    found = {
        "model": _cpu_model(),
        "architecture": platform.machine(),
        "logical_cores": os.cpu_count(),
        "physical_cores": _physical_cores(),
        "smt_active": _first_line(CPUS / "smt/active") == "1",
        "affinity": _affinity(),
        "quota_cores": quota.cores if quota else None,
        "governor": ", ".join(_every("cpufreq/scaling_governor")),
        "frequency_driver": _first_line(base / "cpufreq/scaling_driver"),
        "energy_preference": ", ".join(_every("cpufreq/energy_performance_preference")),
        "khz_min": _number(base / "cpufreq/cpuinfo_min_freq"),
        "khz_max": _number(base / "cpufreq/cpuinfo_max_freq"),
        "khz_allowed_max": _number(base / "cpufreq/scaling_max_freq"),
        "turbo_off": _turbo_off(),
        "isolated": _first_line(CPUS / "isolated"),
        "numa_nodes": len(list(NODES.glob("node[0-9]*"))),
        "numa_cores": {folder.name: _first_line(folder / "cpulist") for folder in NODES.glob("node[0-9]*")},
        "caches": _caches(base),
        "features": _features(),
    }
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def describe_memory() -> dict[str, Any]:
    swap = (line.split() for line in list(_lines(Path("/proc/swaps")))[1:])
    return {
        "total_bytes": _total_memory_bytes(),
        "limit_bytes": memory.limit_bytes(),
        "swap_bytes": sum(int(words[2]) * 1024 for words in swap),
        "huge_pages": _first_line(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
    }


def nvml_may_answer() -> bool:
    """Are NVIDIA's driver and the package that asks it there?"""
    return GPU_DRIVER.exists() and util.find_spec("pynvml") is not None


def describe_gpus() -> list[dict[str, Any]]:
    """Names, compute capability (`sm89`) and memory through NVML.

    Empty where no NVIDIA driver is loaded or NVML does not answer.
    """
    if not nvml_may_answer():
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        return [_gpu(pynvml, index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def describe_system() -> dict[str, Any]:
    return {
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "virtualization": _virtualization(),
        "container": any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
    }


def describe_packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of what is installed among `names`, from the packages' metadata; by default what matters for
    a latency."""
    return {name: version for name in names if (version := _version(name))}


def describe_revision(root: Path = ROOT) -> dict[str, Any]:
    """The project's git commit and whether tracked files were changed; empty where there is no commit."""
    if not (root / ".git").exists():
        return {}
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    head = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "")
    if head in ("", "(initial)"):
        return {}
    return {"commit": head, "dirty": any(not line.startswith("#") for line in lines)}


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty elsewhere."""
    pairs = (line.partition(":") for line in _text(Path("/proc/cpuinfo")).partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@functools.cache
def _cpu_model() -> str:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string")
    info = _cpuinfo()
    board = _text(Path("/proc/device-tree/model")).strip("\0\n")
    return info.get("model name") or info.get("Model") or board or platform.processor() or platform.machine()


@functools.cache
def _total_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _hashed_machine_id() -> str:
    if sys.platform == "darwin":
        text = _sysctl("kern.uuid")
    else:
        text = _first_line(Path("/etc/machine-id")) or _first_line(Path("/var/lib/dbus/machine-id"))
    return hashlib.sha256(f"deploybench:{text}".encode()).hexdigest()[:16] if text else ""


def _physical_cores() -> int | None:
    places = [
        (_first_line(folder / "topology/physical_package_id"), _first_line(folder / "topology/core_id"))
        for folder in CPUS.glob("cpu[0-9]*")
    ]
    return len(set(places)) or None


def _affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _turbo_off() -> bool:
    off = {"intel_pstate/no_turbo": "1", "cpufreq/boost": "0"}
    return any(_first_line(CPUS / name) == value for name, value in off.items())


def _every(name: str) -> list[str]:
    """The different values that a file has among the cores, sorted."""
    return sorted({_first_line(file) for file in CPUS.glob(f"cpu[0-9]*/{name}")} - {""})


def _caches(base: Path) -> dict[str, str]:
    folders = sorted(base.glob("cache/index*"))
    return {
        f"L{_first_line(folder / 'level')} {_first_line(folder / 'type')}": _first_line(folder / "size")
        for folder in folders
    }


INTERESTING = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
)
INTERESTING_ARM = ("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme")


def _features() -> list[str]:
    """The vector extensions that decide how fast a kernel can be."""
    present = set((_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split())
    return [name for name in (*INTERESTING, *INTERESTING_ARM) if name in present]


def _virtualization() -> str:
    vendor = _first_line(Path("/sys/class/dmi/id/sys_vendor"))
    product = _first_line(Path("/sys/class/dmi/id/product_name"))
    if "hypervisor" in _cpuinfo().get("flags", "").split():
        return " ".join(filter(None, ["virtual machine", vendor, product]))
    return ""


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def _gpu(pynvml: Any, index: int, driver: str) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    total_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return {
        "name": str(pynvml.nvmlDeviceGetName(handle)),
        "target": f"sm{major}{minor}",
        "memory_bytes": total_bytes,
        "driver": driver,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _sysctl(name: str) -> str:
    return subprocess.run(
        ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
    ).stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _first_line(path: Path) -> str:
    return next(_lines(path), "")


def _lines(path: Path) -> Iterator[str]:
    return (line.strip() for line in _text(path).splitlines())


def _number(path: Path) -> int | None:
    text = _first_line(path)
    return int(text) if text.isdigit() else None
