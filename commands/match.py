"""`python bench.py match`: networks of one latency, and what they learn at it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from commands import OK, SOME_FAILED, UsageError, options
from commands.answer_report import report_with

if TYPE_CHECKING:
    from commands.match_request import MatchRequest
    from commands.match_run import Outcome

DESCRIPTION = """
Every network has a knob, `depth`. For each, the setting is searched at which it takes as long as the
reference, within a tolerance, both measured side by side in turns; then all that were found are measured
again together, as one run of the store. With --seeds each learns scikit-learn's digits so many times:
accuracy at matched latency.

  python bench.py match
  python bench.py match --model blocknet/convnext,blocknet/lsa --backend openvino
  python bench.py match --seeds 3 --report match.html
"""
REFERENCE = "blocknet/ncb"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("--reference", default=REFERENCE, metavar="NAME", help=f"default: {REFERENCE}")
    parser.add_argument("--reference-setting", metavar="N", help="its depth (default: the builder's)")
    options.add_list(parser, "--model", "NAME", "what is matched to it (default: the other blocknet/*)")
    parser.add_argument("--knob", default="depth", metavar="NAME", help="the option to set (default: depth)")
    parser.add_argument("--settings", default="3-64", metavar="LOW-HIGH", help="default: 3-64")
    parser.add_argument("--tolerance", default="3%", metavar="SHARE", help="of the time (default: 3%%)")
    parser.add_argument("--backend", default="onnxruntime", metavar="NAME", help="default: onnxruntime")
    parser.add_argument("--precision", metavar="NAME", help="default: the backend's first")
    parser.add_argument("--batch-size", default="1", metavar="N", help="default: 1")
    parser.add_argument("--threads", default="1", metavar="N", help="default: 1")
    parser.add_argument("--rounds", default="20", metavar="N", help="of the last run (default: 20)")
    parser.add_argument("--seeds", default="0", metavar="N", help="trainings of each (default: 0, none)")
    parser.add_argument("--epochs", default="20", metavar="N", help="of each training (default: 20)")
    options.add_config(parser)
    options.add_store(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="an HTML report with a section for it")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """0 where every network was measured, matched or not; 1 where one failed."""
    from commands.match_request import read
    from models.errors import DataError, ModelError

    began_ns = time.perf_counter_ns()
    options.check_report(args)
    try:
        request = read(args)
    except (ModelError, DataError) as error:
        raise UsageError(str(error)) from None
    outcome = _measured(args, request, began_ns)
    if outcome is None:
        return SOME_FAILED
    _tell(args, outcome)
    return SOME_FAILED if outcome.failures else OK


def _measured(args: argparse.Namespace, request: MatchRequest, began_ns: int) -> Outcome | None:
    from commands.artifact_limit import limit_of
    from commands.match_run import MatchRun
    from commands.only_one import RunBusyError
    from converters.cache import CacheError
    from converters.cache_use import leased
    from reports.database import StoreError
    from reports.progress import Progress
    from reports.store import Store
    from runners.suite import DeviceBusyError

    config, folder = options.load_config(args)
    root = folder / Path(config.paths.artifacts).expanduser()
    try:
        with (
            Store(options.store_path(args, config, folder)) as store,
            leased(root, request.keys()),
            Progress() as progress,
        ):
            run = MatchRun(
                *(request, root, store, progress),
                deadline_seconds=config.conversion.deadline_seconds,
                max_artifact_bytes=limit_of(config),
            )
            return run.go(args.command_line, began_ns=began_ns)
    except (StoreError, CacheError) as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return None


def _tell(args: argparse.Namespace, outcome: Outcome) -> None:
    from reports.console import PlainConsole
    from reports.matched import document, print_matched, section

    report = None
    if args.report and outcome.run is not None:
        report = report_with(section(outcome.matched, outcome.title), outcome.run, args.report)
    if args.json:
        run_id = outcome.run.info.run_id if outcome.run else None
        told = {**document(outcome.matched), "failures": outcome.failures, "run_id": run_id, "report": report}
        print(json.dumps(told))
        return
    print_matched(outcome.matched, outcome.title, PlainConsole())
    for model, message in outcome.failures.items():
        print(f"failed: {model}: {message}", file=sys.stderr)
    if report:
        print(f"\nReport: {options.shown(Path(report))}")
