"""`python bench.py gate BASE`: has the present code become slower than a stored run, by more than a bound?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UNDECIDED, UsageError, options, references, run
from commands.answer_report import report_with

if TYPE_CHECKING:
    from commands.gate_result import GateResult
    from commands.references import Reference

DESCRIPTION = f"""
BASE is one of: {references.FORMS}; a colon and words of a label name cases of it.

The files that BASE was measured from are taken from the artifact cache and measured again beside the files
of the present code, in interleaved rounds of one run, so that the machine's drift hits both alike. Cases
whose file is the same, byte for byte, are not measured: nothing in the file can have regressed. --stored
measures nothing and compares with the numbers of a stored run, which hold the machine's drift too. A first
BASE comes from running a suite, for example `python bench.py --suite blocks`.

  python bench.py gate release.json --max-regression 1%
  python bench.py gate v1.2 --suite blocks --rounds 20 --markdown > comment.md
  python bench.py gate latest~1 latest --stored
"""
EXIT_CODES = (
    "exit codes: 0 no case regressed beyond the bound, 1 one did, 2 bad input, 3 built but not timed (no"
    " device), 4 undecided: too few rounds, a case failed, or another process measures"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.epilog = EXIT_CODES
    parser.add_argument("base", nargs="?", metavar="BASE", help="the run that must not be undercut")
    parser.add_argument(
        "now", nargs="?", metavar="NOW", help="with --stored: the run to judge (default: latest)"
    )
    parser.add_argument(
        "--max-regression", metavar="SHARE", help="how much slower is still allowed (default: 1%%)"
    )
    parser.add_argument("--stored", action="store_true", help="compare stored numbers, measure nothing")
    parser.add_argument(
        "--measure-identical", action="store_true", help="measure cases whose file is the same, too"
    )
    parser.add_argument(
        "--force", action="store_true", help="with --stored: different protocols or batch sizes too"
    )
    run.add_matrix(parser)
    run.add_timing(parser.add_argument_group("how long to measure"))
    out = parser.add_argument_group("where things go")
    options.add_config(out)
    options.add_store(out)
    options.add_output(out)


def execute(args: argparse.Namespace) -> int:
    began_ns = time.perf_counter_ns()
    if args.base is None:
        raise UsageError(f"gate: BASE is missing: {references.FORMS}; a first one comes from running a suite")
    bound = options.share("--max-regression")(args.max_regression or "1%")
    options.check_one_output(args)
    if args.stored:
        result = _stored(args, bound)
    else:
        if args.now is not None or args.force:
            given = f"NOW ({args.now})" if args.now is not None else "--force"
            raise UsageError(f"{given} is for --stored: without it, the present code is measured beside BASE")
        measured = _measured(args, bound, began_ns)
        if measured is None:
            return UNDECIDED
        result = measured
    return _tell(args, result)


def _stored(args: argparse.Namespace, bound: float) -> GateResult:
    from commands.gate_result import stored_result

    config, folder = options.load_config(args)
    path = options.store_path(args, config, folder)
    with references.opened(path) as store:
        known = references.References(store, store_path=path, suite=args.suite)
        base, now = known.find(args.base), known.find(args.now or "latest")
    return stored_result(base, now, bound=bound, force=args.force)


def _measured(args: argparse.Namespace, bound: float, began_ns: int) -> GateResult | None:
    """None where another process holds the device, which is said."""
    from commands.gate_run import GateRun
    from commands.only_one import RunBusyError
    from converters.cache import CacheError
    from converters.cache_use import leased
    from reports.store import Store, StoreError
    from runners.suite import DeviceBusyError

    config, folder = options.load_config(args)
    path = options.store_path(args, config, folder)
    base = _base(args, path)
    cache_root = folder / Path(config.paths.artifacts).expanduser()
    try:
        work = GateRun(base, config, args, cache_root, bound=bound, began_ns=began_ns)
        with leased(cache_root, work.choose()):
            work.find_files()
            with Store(path) as store:
                return work.go(store)
    except (StoreError, CacheError) as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return None


def _base(args: argparse.Namespace, path: Path) -> Reference:
    with references.opened(path) as store:
        return references.References(store, store_path=path, suite=args.suite).find(args.base)


def _tell(args: argparse.Namespace, result: GateResult) -> int:
    from reports.compared_text import document, markdown, print_compared

    report = None
    if args.report:
        from reports.compared_page import section

        first = section(result.compared, title=result.title, verdict=result.sentence)
        report = report_with(first, result.run, args.report)
    if args.json:
        value = {**document(result.compared), "bound": result.bound, "verdict": result.sentence}
        states = {"exit_code": result.exit_code, "run_id": result.run_id, "report": report}
        print(json.dumps({**value, **states}))
    elif args.markdown:
        print(markdown(result.compared, title=result.title, verdict=result.sentence), end="")
    else:
        from reports.console import PlainConsole

        print_compared(result.compared, PlainConsole(), verdict=result.sentence)
        if report:
            print(f"\nReport: {options.shown(Path(report))}")
    return result.exit_code
