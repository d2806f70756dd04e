"""What `doctor` says makes numbers noisy, on made-up machines: only what applies, and what helps."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from commands import quietness
from commands.quietness import Places, mac_power

CPU = "sys/devices/system/cpu"
NOISY = {
    f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil\n",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu0/cpufreq/energy_performance_preference": "balance_power\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/smt/active": "1\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0,2\n",
    f"{CPU}/cpu1/topology/thread_siblings_list": "1,3\n",
    f"{CPU}/cpu2/topology/thread_siblings_list": "0,2\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "7\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
    "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "0\n",
    "sys/firmware/acpi/platform_profile": "low-power\n",
    "sys/firmware/acpi/platform_profile_choices": "low-power balanced performance\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone0/temp": "93000\n",
    "proc/swaps": "Filename Type Size Used Priority\n/swapfile file 4194304 1048576 -2\n",
    "proc/self/cgroup": "0::/app\n",
}
QUIET = {
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu0/cpufreq/energy_performance_preference": "performance\n",
    f"{CPU}/intel_pstate/no_turbo": "1\n",
    f"{CPU}/smt/active": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/fs/cgroup/app/cpu.max": "max 100000\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "1\n",
    "sys/firmware/acpi/platform_profile": "performance\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "proc/self/cgroup": "0::/app\n",
}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """`told(files)`: the notes on a machine with these files, by area, and their fixes."""
    monkeypatch.setattr(quietness, "WATCHED_SECONDS", 0.0)
    monkeypatch.setattr(quietness, "busy_processes", lambda seconds: [])
    monkeypatch.setattr(quietness.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)

    def tell(files: dict[str, str]) -> dict[str, quietness.Finding]:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        found = quietness.findings(Places(tmp_path / "proc", tmp_path / "sys"))
        return {finding.area: finding for finding in found if finding.state == "note"}

    return tell


def test_a_quiet_machine_needs_nothing(told):
    assert told(QUIET) == {}


def test_a_noisy_machine_is_told_every_command(told, tmp_path):
    cpus = tmp_path / CPU
    found = told(NOISY)
    assert {area: finding.fix for area, finding in found.items()} == {
        "governor": f"echo performance | sudo tee {cpus}/cpu*/cpufreq/scaling_governor",
        "energy preference": f"echo performance | sudo tee {cpus}/cpu*/cpufreq/energy_performance_preference",
        "turbo": f"echo 1 | sudo tee {cpus}/intel_pstate/no_turbo",
        "SMT": f"echo off | sudo tee {cpus}/smt/control, or pin to one thread of each core: --pin 0,1",
        "swap": "sudo swapoff -a",
        "huge pages": f"echo madvise | sudo tee {tmp_path}/sys/kernel/mm/transparent_hugepage/enabled",
        "CPU limit": f"echo max | sudo tee {tmp_path}/sys/fs/cgroup/app/cpu.max, or start the container"
        " without --cpus",
        "power": "plug it in",
        "power profile": f"echo performance | sudo tee {tmp_path}/sys/firmware/acpi/platform_profile",
        "temperature": "let it cool, free its vents, or turn turbo off",
        "throttling": "better cooling, or turbo off: see above",
    }
    assert "'schedutil'" in found["governor"].message
    assert "performance" not in found["governor"].message
    assert "4.0 GiB of swap, 1.0 GiB used" in found["swap"].message
    assert "1.5 cores" in found["CPU limit"].message
    assert "93 °C" in found["temperature"].message


def test_amd_and_others_have_another_switch_for_turbo(told, tmp_path):
    found = told({f"{CPU}/cpufreq/boost": "1\n"})
    assert found["turbo"].fix == f"echo 0 | sudo tee {tmp_path / CPU}/cpufreq/boost"


def test_a_virtual_machine_without_any_of_it_has_one_note(told):
    assert set(told({})) == {"governor"}


def test_nothing_is_written(told, tmp_path):
    told(NOISY)
    assert {name: (tmp_path / name).read_text() for name in NOISY} == NOISY


def test_a_mac_that_saves_power():
    battery = "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t80%; discharging\n"
    settings = "System-wide power settings:\nCurrently in use:\n lowpowermode         1\n standby  1\n"
    found = {finding.area: finding.fix for finding in mac_power(battery, settings)}
    assert found == {"power": "plug it in", "low power mode": "sudo pmset -a lowpowermode 0"}
    assert not list(mac_power("Now drawing from 'AC Power'\n", " lowpowermode 0\n"))


def test_a_busy_process_is_named_with_its_share():
    code = "import time\nend = time.time() + 20\nwhile time.time() < end: sum(range(10000))"
    running = subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(0.1)
        found = {pid: (name, share) for name, pid, share in quietness.busy_processes(0.5)}
    finally:
        running.kill()
        running.wait()
    name, share = found[running.pid]
    assert name.startswith("python")
    assert 0.05 <= share < 1.5


def test_doctor_shows_it(project, monkeypatch):
    monkeypatch.setattr(quietness, "busy_processes", lambda seconds: [("compiler", 4321, 0.97)])
    found = json.loads(project.bench("doctor", "--json").out)["findings"]
    other = next(finding for finding in found if finding["area"] == "other work")
    assert other["message"] == "compiler (process 4321) uses 97% of a core"
    assert other["fix"].endswith("kill -STOP 4321, afterwards kill -CONT 4321")
