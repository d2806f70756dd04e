"""What is told about the machine and read around a round, on this machine and on made-up ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runners import cgroups, environment, memory, readings


def test_description_is_plain_json_and_names_nobody() -> None:
    described = environment.describe_machine()
    text = json.dumps(described, allow_nan=False)
    assert described["cpu"]["model"]
    assert described["cpu"]["logical_cores"] == os.cpu_count()
    assert described["memory"]["total_bytes"] > 1 << 28
    assert described["packages"]["numpy"]
    assert socket.gethostname() not in [str(v) for v in described["system"].values()]
    for private in (Path("/etc/machine-id"),):
        if private.exists() and private.read_text().strip():
            assert private.read_text().strip() not in text


def test_fingerprint_is_stable_and_depends_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.fingerprint.cache_clear()
    first = environment.fingerprint()
    environment.fingerprint.cache_clear()
    assert environment.fingerprint() == first
    assert len(first) == 16
    seen = {first}
    for name, value in (
        ("_hashed_machine_id", "other"),
        ("_cpu_model", "other"),
        ("_total_memory_bytes", 1 << 44),
    ):
        environment.fingerprint.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(environment, name, lambda value=value: value)
            seen.add(environment.fingerprint())
    environment.fingerprint.cache_clear()
    assert len(seen) == 4


def test_describing_imports_no_runtime() -> None:
    code = (
        "import runners.environment as e, sys; e.describe_machine();"
        "print([m for m in ('torch', 'onnxruntime', 'openvino', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


ROOT = Path(environment.__file__).resolve().parent.parent


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_revision_tells_commit_and_dirt(tmp_path: Path) -> None:
    assert environment.describe_revision(tmp_path) == {}
    git(tmp_path, "init", "-q")
    assert environment.describe_revision(tmp_path) == {}
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("b")
    assert environment.describe_revision(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "file").write_text("b")
    assert environment.describe_revision(tmp_path) == {"commit": commit, "dirty": True}


def test_revision_without_git_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe_revision(tmp_path) == {}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_readings_of_a_full_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = write(
        tmp_path / "proc",
        {
            "pressure/cpu": "some avg10=0.18 avg60=0.34 avg300=0.17 total=3727578\nfull avg10=0.00 total=0\n",
            "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=5\n",
            "thread-self/stat": f"7 (a) b) R {'1 ' * 35}9 0 0\n",
            "self/cgroup": "0::/user/app\n",
            "stat": "cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\nctxt 987\nbtime 1\n",
        },
    )
    cpu = "devices/system/cpu"
    folder = write(
        tmp_path / "sys",
        {
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "2100000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "3400000\n",
            f"{cpu}/cpu9/cpufreq/scaling_cur_freq": "3600000\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{cpu}/cpu1/thermal_throttle/core_throttle_count": "4\n",
            "class/thermal/thermal_zone0/type": "acpitz\n",
            "class/thermal/thermal_zone0/temp": "99000\n",
            "class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
            "class/thermal/thermal_zone1/temp": "61000\n",
            "class/hwmon/hwmon0/name": "nvme\n",
            "class/hwmon/hwmon0/temp1_input": "88000\n",
            "class/hwmon/hwmon1/name": "coretemp\n",
            "class/hwmon/hwmon1/temp1_input": "60000\n",
            "class/hwmon/hwmon1/temp2_input": "63500\n",
            "fs/cgroup/user/app/cpu.stat": "usage_usec 9\nnr_throttled 1\nthrottled_usec 250\n",
        },
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    values = readings.read(proc, folder)
    assert values["memory_pressure_us"] == 12
    assert "io_pressure_us" not in values
    assert values["cpu_temperature_c"] == 63.5
    assert values["quota_wait_ns"] == 250_000
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert values["cpu_pressure_us"] == 3_727_578
    assert values["machine_busy_ns"] == 163 * tick_ns
    assert values["machine_steal_ns"] == 8 * tick_ns
    assert values["machine_switches"] == 987
    assert (values["cpu_khz_min"], values["cpu_khz_max"]) == (2_100_000, 3_600_000)  # core 9 runs this
    assert values["cpu_throttle_count"] == 7
    assert values["user_cpu_ns"] > 0


def test_readings_of_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    values = readings.read(tmp_path, tmp_path)
    assert "voluntary_switches" in values
    absent = {"cpu_pressure_us", "machine_busy_ns", "cpu_khz_min", "cpu_throttle_count", "cpu_temperature_c"}
    assert not (absent | {"quota_wait_ns"}) & set(values)
    assert readings.peak_rss_bytes(tmp_path) > 1 << 20


V2 = {
    "proc/self/cgroup": "0::/user/app\n",
    "sys/user/app/memory.events": "low 0\nhigh 0\nmax 4\noom 2\noom_kill 3\noom_group_kill 0\n",
    "sys/user/app/memory.max": "1048576\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu:/x\n4:memory:/app\n0::/\n",
    "sys/memory/app/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
    "sys/memory/app/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/memory/memory.limit_in_bytes": "2097152\n",
}
CONTAINER = {
    "proc/self/cgroup": "0::/docker/abc\n",
    "sys/memory.events": "oom_kill 8\n",
    "sys/memory.max": "max\n",
}
BARE = {"proc/vmstat": "nr_free_pages 1\noom_kill 9\n"}
# the slice or pod around our group has the smaller limit
OUTER_V2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/pod/app/memory.max": "4194304\n",
    "sys/pod/memory.max": "1048576\n",
    "sys/memory.max": "max\n",
}
OUTER_V1 = {
    "proc/self/cgroup": "4:memory:/pod/app\n0::/\n",
    "sys/memory/pod/app/memory.limit_in_bytes": "4194304\n",
    "sys/memory/pod/memory.limit_in_bytes": "2097152\n",
    "sys/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


@pytest.mark.parametrize(
    ("files", "kills", "limit"),
    [
        (V2, 3, 1 << 20),
        (V1, 5, 1 << 21),
        (CONTAINER, 8, None),
        (BARE, 9, None),
        (OUTER_V2, 0, 1 << 20),
        (OUTER_V1, 0, 1 << 21),
        ({}, 0, None),
    ],
)
def test_memory_of_control_groups(
    tmp_path: Path, files: dict[str, str], kills: int, limit: int | None
) -> None:
    write(tmp_path, files)
    assert memory.oom_kills(tmp_path / "proc", tmp_path / "sys") == kills
    assert memory.limit_bytes(tmp_path / "proc", tmp_path / "sys") == limit


QUOTA_V2 = {
    "proc/self/cgroup": "0::/user/app\n",
    "sys/user/app/cpu.max": "150000 100000\n",
    "sys/user/cpu.max": "50000 100000\n",
    "sys/user/app/cpu.stat": "usage_usec 1\nthrottled_usec 7\n",
}
QUOTA_V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/app\n0::/\n",
    "sys/cpu/x/cpu.cfs_quota_us": "-1\n",
    "sys/cpu/x/cpu.cfs_period_us": "100000\n",
    "sys/cpu/cpu.cfs_quota_us": "300000\n",
    "sys/cpu/cpu.cfs_period_us": "100000\n",
    "sys/cpu/x/cpu.stat": "nr_periods 1\nnr_throttled 0\nthrottled_time 42\n",
}
QUOTA_CONTAINER = {"proc/self/cgroup": "0::/../abc\n", "sys/cpu.max": "max 100000\n"}
# the limit of the group around ours is what holds it up
OUTER_QUOTA_V2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/pod/app/cpu.max": "max 100000\n",
    "sys/pod/app/cpu.stat": "usage_usec 9\nthrottled_usec 0\n",
    "sys/pod/cpu.max": "200000 100000\n",
    "sys/pod/cpu.stat": "usage_usec 9\nthrottled_usec 70\n",
    "sys/cpu.stat": "usage_usec 99\n",
}
OUTER_QUOTA_V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/pod/app\n0::/\n",
    "sys/cpu/pod/app/cpu.stat": "nr_throttled 1\nthrottled_time 42\n",
    "sys/cpu/pod/cpu.cfs_quota_us": "200000\n",
    "sys/cpu/pod/cpu.cfs_period_us": "100000\n",
    "sys/cpu/pod/cpu.stat": "nr_throttled 7\nthrottled_time 1000\n",
    "sys/cpu/cpu.stat": "nr_throttled 0\nthrottled_time 0\n",
}
# a group whose name is that of a mount point is found by two ways
TWICE = {
    "proc/self/cgroup": "5:cpu:/\n0::/unified\n",
    "sys/unified/cpu.max": "100000 100000\n",
    "sys/unified/cpu.stat": "throttled_usec 7\n",
}


@pytest.mark.parametrize(
    ("files", "cores", "file", "throttled_ns"),
    [
        (QUOTA_V2, 0.5, "sys/user/cpu.max", 7_000),
        (QUOTA_V1, 3.0, "sys/cpu/cpu.cfs_quota_us", 42),
        (QUOTA_CONTAINER, None, "", None),
        (OUTER_QUOTA_V2, 2.0, "sys/pod/cpu.max", 70_000),
        (OUTER_QUOTA_V1, 2.0, "sys/cpu/pod/cpu.cfs_quota_us", 1_042),
        (TWICE, 1.0, "sys/unified/cpu.max", 7_000),
        ({}, None, "", None),
    ],
)
def test_cpu_limits_of_control_groups(
    tmp_path: Path, files: dict[str, str], cores: float | None, file: str, throttled_ns: int | None
) -> None:
    """The smallest limit of our group and of those that it lies in counts; all of them hold it up."""
    write(tmp_path, files)
    quota = cgroups.smallest_quota(tmp_path / "proc", tmp_path / "sys")
    assert (quota.cores if quota else None) == cores
    assert quota is None or quota.file == tmp_path / file
    assert cgroups.throttled_ns(tmp_path / "proc", tmp_path / "sys") == throttled_ns


def test_machine_facts_name_what_rules_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        {
            "cpu0/cpufreq/scaling_governor": "performance\n",
            "cpu1/cpufreq/scaling_governor": "powersave\n",
            "cpu0/cpufreq/scaling_driver": "intel_pstate\n",
            "cpu0/cpufreq/energy_performance_preference": "balance_power\n",
            "cpu0/cpufreq/scaling_max_freq": "2000000\n",
            "intel_pstate/no_turbo": "1\n",
            "nodes/node0/cpulist": "0-1\n",
        },
    )
    monkeypatch.setattr(environment, "CPUS", tmp_path)
    monkeypatch.setattr(environment, "NODES", tmp_path / "nodes")
    cpu = environment.describe_cpu()
    assert cpu["governor"] == "performance, powersave"
    assert (cpu["frequency_driver"], cpu["energy_preference"]) == ("intel_pstate", "balance_power")
    assert (cpu["khz_allowed_max"], cpu["turbo_off"]) == (2_000_000, True)
    assert (cpu["numa_nodes"], cpu["numa_cores"]) == (1, {"node0": "0-1"})
