"""`python bench.py import`: records of another machine, or figures of other tools, into the store."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from commands import OK, UsageError, options

if TYPE_CHECKING:
    from reports.records import StoredRun

_DESCRIBED = ("trtexec", "onnxruntime_perf_test")  # what they timed, the command line has to tell
TOOLS = (*_DESCRIBED, "pytest-benchmark")
DESCRIPTION = """
Brings records that `run-bundle` or `export --format records` wrote into the store, each file as a run of its
own with its own times and machine; `report` then shows it. All files are taken or none; a file whose content
is in the store already adds nothing.

  python bench.py import records.json
  python bench.py import times.json --as trtexec --model nextvit_small --precision fp16 \\
      --device-name "Tesla T4"
  python bench.py import benchmarks.json             # of pytest-benchmark: told by its content
  python bench.py import result.csv --as onnxruntime_perf_test --model nextvit_small --precision fp32 \\
      --device-name "Xeon"

Figures of another tool become results of a backend of that name, with a protocol of their own: they are never
ranked with results of this program. One process gives no interval.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    options.add_config(parser)
    options.add_store(parser)
    options.add_json(parser)
    other = parser.add_argument_group("figures of another tool")
    other.add_argument(
        "--as", dest="tool", metavar="TOOL", help=f"the file is of this tool: {', '.join(TOOLS)}"
    )
    other.add_argument("--model", metavar="NAME", help="the network that was timed, such as nextvit_small")
    other.add_argument("--resolution", metavar="SIDE", help="image side (default: the model's)")
    other.add_argument("--precision", metavar="NAME", help="fp32, fp16, bf16, int8")
    other.add_argument("--batch-size", metavar="N", help="images per query (default: 1)")
    other.add_argument("--device-name", metavar="TEXT", help="the GPU, as nvidia-smi names it, or the CPU")
    other.add_argument("--tool-version", metavar="TEXT", help="of onnxruntime_perf_test, such as 1.22")
    other.add_argument(
        "--tool-command", metavar="TEXT", help="the command line of onnxruntime_perf_test that made the file"
    )
    other.add_argument("--profile", type=Path, metavar="FILE", help="its --exportProfile file")
    other.add_argument("--trtexec-version", metavar="TEXT", help="such as 10.3")
    other.add_argument("--trtexec-command", metavar="TEXT", help="the command line that it was run with")
    other.add_argument("--warmup-ms", metavar="MS", help="its --warmUp, where that was not 200")


def execute(args: argparse.Namespace) -> int:
    from reports.store import Store, StoreError

    runs = _runs(args)
    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    try:
        with Store(path) as store:
            added = store.import_runs({sha256: run for _, sha256, run in runs})
    except StoreError as error:
        raise UsageError(f"{error}; nothing was imported") from None
    rows = [
        {"file": str(file), "sha256": sha256, "run_id": added[sha256][0], "added": added[sha256][1]}
        for file, sha256, _ in runs
    ]
    if args.json:
        print(json.dumps({"schema": 1, "store": str(path), "imported": rows}))
        return OK
    for file, sha256, run in runs:
        run_id, is_added = added[sha256]
        print(f"{file}: {_told(run, run_id, added=is_added)}")
    return OK


def _told(run: StoredRun, run_id: int, *, added: bool) -> str:
    if not added:
        return f"is in the store already, as run {run_id}: nothing added"
    from reports.formatting import count, printable

    rounds = sum(len(result.rounds) for result in run.results)
    held = f"{count(len(run.results), 'case')}, {count(rounds, 'round')}"
    suite = printable(run.info.suite)
    return f"run {run_id}, suite {suite}, {held}; show it: python bench.py report --run {run_id}"


def _runs(args: argparse.Namespace) -> list[tuple[Path, str, StoredRun]]:
    """(file, sha256 of its content, run), every file read and checked before the store is opened."""
    if args.tool is not None:
        return _foreign(args)
    given = [name for name in _FOREIGN_OPTIONS if getattr(args, name) is not None]
    if given:
        tools = " or ".join(_DESCRIBED)
        raise UsageError(f"--{given[0].replace('_', '-')} is for figures of another tool: add --as {tools}")
    return [_recorded(path) for path in args.files]


def _recorded(path: Path) -> tuple[Path, str, StoredRun]:
    """A file of records, or one of pytest-benchmark, which says what it is."""
    from reports import pytest_benchmark_file
    from reports.records_file import RecordsError, read

    if pytest_benchmark_file.is_one(path):
        return _described(path, _of_pytest_benchmark(path))
    try:
        run, sha256 = read(path)
    except RecordsError as error:
        raise UsageError(str(error)) from None
    return path, sha256, run


def _of_pytest_benchmark(path: Path) -> StoredRun:
    from commands.pytest_benchmark_run import run_of

    return run_of(path)


def _described(path: Path, run: StoredRun) -> tuple[Path, str, StoredRun]:
    from reports.records_file import content_digest

    return path, content_digest(run), run


_FOREIGN_OPTIONS = (
    "model", "resolution", "precision", "batch_size", "device_name", "profile", "trtexec_version",
    "trtexec_command", "warmup_ms", "tool_version", "tool_command",
)  # fmt: skip


_OF_ONE_TOOL = {
    "profile": "trtexec",
    "trtexec_version": "trtexec",
    "trtexec_command": "trtexec",
    "warmup_ms": "trtexec",
    "tool_version": "onnxruntime_perf_test",
    "tool_command": "onnxruntime_perf_test",
}


def _foreign(args: argparse.Namespace) -> list[tuple[Path, str, StoredRun]]:
    from models.tables import suggest

    if args.tool not in TOOLS:
        raise UsageError(f"--as {args.tool}: {suggest(args.tool, TOOLS)}")
    if args.tool == "pytest-benchmark":
        return [_described(path, _of_pytest_benchmark(path)) for path in args.files]
    for name, tool in _OF_ONE_TOOL.items():
        if tool != args.tool and getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for --as {tool}")
    if len(args.files) != 1:
        raise UsageError(f"--as {args.tool}: give one file at a time, as the other options describe it")
    if args.tool == "trtexec":
        from commands.trtexec_run import run_of
    else:
        from commands.perf_test_run import run_of
    return [_described(args.files[0], run_of(args, args.files[0]))]
