"""`python bench.py match`: networks of one latency, and what they learn at it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from commands import INTERRUPTED, OK, SOME_FAILED, UsageError, options
from commands.answer_report import report_of

if TYPE_CHECKING:
    from commands.config import Config
    from commands.match_request import MatchRequest
    from commands.match_run import Outcome

DESCRIPTION = """
A suite with a table `match` names networks, a reference, and their knob, the depth. For each network the
setting is searched at which it takes as long as the reference, within a tolerance, both measured side by
side in turns; where a step of the knob is too coarse, a finer one goes on. Then all that were found are
measured again together, as one run of the store, and each learns scikit-learn's digits with several seeds:
accuracy at matched latency. `python bench.py --suite NAME` does the same, and writes a report. What is ended
early goes on with the same command: every round and every training is stored when it is done.

  python bench.py match
  python bench.py match --seeds 0 --model blocknet/convnext,blocknet/lsa --backend openvino
  python bench.py match --suite hybrid --report match.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("--suite", metavar="NAME", help="whose values hold (default: blocks-accuracy)")
    values = parser.add_argument_group("other values than the suite's")
    values.add_argument("--reference", metavar="NAME", help="what the others are matched to")
    values.add_argument("--reference-setting", metavar="N", help="its knob")
    options.add_list(values, "--model", "NAME", "what is matched to it")
    values.add_argument("--knob", metavar="NAME", help="the builder's option that is searched")
    values.add_argument("--settings", metavar="LOW-HIGH", help="from where to where, such as 3-64")
    values.add_argument("--fine-knob", metavar="NAME", help="the option that goes on where it ends, or off")
    values.add_argument("--fine-settings", metavar="LOW-HIGH", help="from where to where, such as 75-133")
    values.add_argument("--tolerance", metavar="SHARE", help="of the reference's time, such as 3%%")
    values.add_argument("--backend", metavar="NAME", help="a runtime on the CPU")
    values.add_argument("--precision", metavar="NAME", help="the backend's first, unless given")
    values.add_argument("--batch-size", metavar="N", help="images per inference")
    values.add_argument("--threads", metavar="N", help="threads of the runtime")
    values.add_argument("--rounds", metavar="N", help="of the last run")
    add_trainings(values)
    parser.add_argument(
        "--fresh", action="store_true", help="search, measure and train again, whatever is stored"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything and show what would be done")
    options.add_config(parser)
    options.add_store(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="an HTML report with a section for it")
    options.add_json(parser)


def add_trainings(parser: options.Options) -> None:
    parser.add_argument("--seeds", metavar="N", help="trainings of each network; 0: none")
    parser.add_argument("--epochs", metavar="N", help="of each training")


def execute(args: argparse.Namespace) -> int:
    return run(args, *options.load_config(args))


def run(args: argparse.Namespace, config: Config, folder: Path) -> int:
    """0 where every network was measured, matched or not; 1 where one failed. `folder` is of `config`."""
    from commands.match_plan import print_plan
    from commands.match_request import read
    from models.errors import DataError, ModelError

    began_ns = time.perf_counter_ns()
    try:
        request = read(args, config)
    except (ModelError, DataError) as error:
        raise UsageError(str(error)) from None
    if args.dry_run:
        print_plan(request, as_json=args.json)
        return OK
    options.check_report(args)
    outcome = _measured(args, config, folder, request=request, began_ns=began_ns)
    if isinstance(outcome, int):
        return outcome
    _tell(args, outcome)
    return SOME_FAILED if outcome.failures else OK


def _measured(
    args: argparse.Namespace, config: Config, folder: Path, *, request: MatchRequest, began_ns: int
) -> Outcome | int:
    """What was found, or the exit code where that was told already."""
    from commands.artifact_limit import limit_of
    from commands.match_files import MatchFiles
    from commands.match_run import MatchRun
    from commands.only_one import RunBusyError
    from converters.cache import CacheError
    from reports.database import StoreError
    from reports.progress import Progress
    from reports.store import Store
    from runners.suite import DeviceBusyError

    root = folder / Path(config.paths.artifacts).expanduser()
    deadline, limit = config.conversion.deadline_seconds, limit_of(config)
    try:
        with (
            Store(options.store_path(args, config, folder)) as store,
            ExitStack() as leases,
            Progress() as progress,
        ):
            files = MatchFiles(root, progress, leases, request.timing, deadline, limit)
            work = MatchRun(request, store, files, progress, args.command_line, began_ns, args.fresh)
            try:
                return work.go()
            except KeyboardInterrupt:
                print(work.interrupted(), file=sys.stderr)
                return INTERRUPTED
    except (StoreError, CacheError) as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED


def _tell(args: argparse.Namespace, outcome: Outcome) -> None:
    from reports.console import PlainConsole
    from reports.matched import document, print_matched

    report = None
    if args.report and outcome.run is not None:
        report = report_of(outcome.run, args.report)
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
