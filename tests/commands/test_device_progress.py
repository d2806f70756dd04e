"""What is told of devices: the launch that begins, how long the rest takes, and an agent that was ended."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from commands.device_progress import DeviceProgress
from device_agents.interleaved import Launch
from device_agents.job import DeviceTiming
from device_agents.journal import Entry
from device_agents.outbox import Sent, Waiting, put
from models.spec import Case, ModelSpec
from reports.progress import Progress

SECOND = 1_000_000_000


class Told:
    """The lines of a run whose clock the test sets."""

    def __init__(self, folder: Path) -> None:
        self.stream, self.now_ns = io.StringIO(), 0
        console = Console(file=self.stream, width=120)
        self.shown = DeviceProgress(Progress(console, clock_ns=self.clock), clock_ns=self.clock)
        case = Case(
            ModelSpec.of("net.onnx", resolution=8), "onnxruntime", device="local", compute_unit="cpuOnly"
        )
        sent = Sent(b"model", "onnx", ("x",), [[np.zeros((1, 3, 8, 8), dtype=np.float32)]])
        self.waiting: Waiting = put(folder, case, sent, timing=DeviceTiming(rounds=3))

    def clock(self) -> int:
        return self.now_ns

    def launch(self, at_s: float, done: int, planned: int, index: int) -> None:
        self.now_ns = round(at_s * SECOND)
        self.shown.launched(Launch(self.waiting, index, done, planned))

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_the_time_left_is_that_of_the_launches_so_far(tmp_path):
    told = Told(tmp_path)
    told.launch(5, 2, 6, 0)
    told.launch(15, 3, 6, 1)  # 10 s a round, 3 to come
    told.launch(19, 4, 6, 2)  # 7 s a round, 2 to come
    label = "measuring net.onnx 8 fp32 onnxruntime local cpuOnly"
    assert told.lines() == [
        f"[5 s] {label}, round 1 of 3: 2/6 done",
        f"[15 s] {label}, round 2 of 3: 3/6 done, about 30 s left",
        f"[19 s] {label}, round 3 of 3: 4/6 done, about 14 s left",
    ]


def test_an_agent_that_was_ended_is_told_with_its_case(tmp_path):
    told = Told(tmp_path)
    told.launch(0, 0, 3, 0)
    body = {"stage": "load", "round_index": -1, "available_memory_bytes": -1}
    for kind in ("begin", "interrupted"):
        told.shown.observed(Entry(kind, body, told.waiting.job.job_id, 2, 4, 0, "0" * 64))
    case = "net.onnx 8 fp32 onnxruntime local cpuOnly"
    assert told.lines()[1:] == [f"{case}: the agent was ended during load, and went on from there"]
