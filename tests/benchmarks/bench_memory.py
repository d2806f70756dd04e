"""How much memory the coordinating process takes: `make benchmark`.

The coordinator is the process of bench.py itself: conversions and measurements have processes of their own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from commands.config import load

ROOT = Path(__file__).parents[2]
MAX_BYTES = 1.5e9
# A simulated case is built of no file: what has build options, or is searched by latency, runs for real
# below.
SUITES = tuple(
    name
    for name, suite in load(ROOT / "bench.toml").suites.items()
    if suite.match is None and not any(matrix.build for matrix in suite.matrix)
)
SMALL_MATCH = (
    *("--reference", "blocknet/ncb", "--reference-setting", "3", "--model", "blocknet/poolformer"),
    *("--settings", "3-8", "--fine-knob", "off", "--rounds", "5", "--seeds", "1", "--epochs", "1"),
)


@pytest.mark.parametrize("suite", SUITES)
def test_the_coordinator_of_a_suite(suite, tmp_path):
    """Every case of the suite with a simulated latency, all its rounds, store, table and report."""
    argv = ("--suite", suite, "--backend", "simulated", "--store", str(tmp_path / "bench.db"))
    check_peak(*argv, "--report", str(tmp_path / "report.html"), log=tmp_path / "log.txt")


def test_the_coordinator_of_a_whole_zoo(tmp_path):
    """Hundreds of networks by pattern, in batches, with simulated latencies."""
    argv = ("--suite", "zoo", "--model", "timm/*", "--max-params", "30M", "--backend", "simulated")
    files = ("--store", str(tmp_path / "bench.db"), "--report", str(tmp_path / "report.html"))
    check_peak(*argv, *files, log=tmp_path / "log.txt")


@pytest.mark.parametrize(
    "argv",
    [
        ("--suite", "smoke", "--profile"),
        ("--suite", "variants-core", "--model", "nextvit_small,timm/resnet50"),
        ("--suite", "forms", "--model", "efficientmod_xxs"),
        ("match", *SMALL_MATCH),
    ],
    ids=["blocks", "networks", "forms", "match"],
)
def test_the_coordinator_of_real_conversions_and_rounds(argv, tmp_path):
    """From an empty cache: conversions with their ledgers, real rounds, profiles by layer, report; and a
    match with its search, last run and trainings."""
    shutil.copy(ROOT / "bench.toml", tmp_path)  # its paths are relative to it
    budget = () if argv[0] == "match" else ("--max-seconds", "300")
    check_peak(*argv, "--config", str(tmp_path / "bench.toml"), *budget, log=tmp_path / "log.txt")


def check_peak(*argv: str, log: Path) -> None:
    """It ends well, in less memory than the bar; what it took is printed."""
    code, peak_bytes = peak_of(*argv, log=log)
    print(f"\n{' '.join(argv)}: peak {peak_bytes / 1e9:.2f} GB")
    assert code == 0, log.read_text()[-2000:]
    assert peak_bytes < MAX_BYTES


def peak_of(*argv: str, log: Path) -> tuple[int, int]:
    """Exit code and the most resident memory of the process itself, its children left out, in bytes.

    Read every 20 ms from the kernel's own high-water mark, so what comes and goes in between is in it.
    """
    peak_bytes = 0
    with log.open("ab") as output:
        command = [sys.executable, str(ROOT / "bench.py"), *argv]
        running = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=output)
        while running.poll() is None:
            peak_bytes = max(peak_bytes, high_water_bytes(running.pid))
            time.sleep(0.02)
    return running.returncode, peak_bytes


def high_water_bytes(pid: int) -> int:
    """VmHWM of a process; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
