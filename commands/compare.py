"""`python bench.py compare A B`: ratios with intervals and verdicts, for two runs or two cases of one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from commands import OK, UsageError, options, references
from commands.answer_report import report_with

if TYPE_CHECKING:
    from reports.compared import Compared

DESCRIPTION = f"""
The time of A over that of B: below 1, A is faster. A and B are each one of: {references.FORMS};
a colon and words of a label name cases of it.

  python bench.py compare latest latest~1
  python bench.py compare HEAD v1.2 --markdown > comment.md
  python bench.py compare latest:ncb latest:bottleneck          # paired: both are of one run
  python bench.py compare results.db release.json --delta 2%
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--suite", metavar="NAME", help="latest and revisions: runs of this suite only")
    parser.add_argument("--delta", metavar="SHARE", help="difference that counts as none (default: 1%%)")
    parser.add_argument(
        "--force", action="store_true", help="compare different protocols or batch sizes all the same"
    )
    options.add_config(parser)
    options.add_store(parser)
    options.add_output(parser)


def execute(args: argparse.Namespace) -> int:
    delta = options.share("--delta")(args.delta or "1%")
    options.check_one_output(args)
    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    with references.opened(path) as store:
        known = references.References(store, store_path=path, suite=args.suite)
        a, b = known.find(args.a), known.find(args.b)
    compared = _compared(a, b, delta=delta, force=args.force)
    report = None
    if args.report:
        from reports.compared import summary_sentence
        from reports.compared_page import section

        title = f"{compared.a.name} against {compared.b.name}"
        report = report_with(
            section(compared, title=title, verdict=summary_sentence(compared)), a.run, args.report
        )
    _print(args, compared, report)
    return OK


def _compared(a: references.Reference, b: references.Reference, *, delta: float, force: bool) -> Compared:
    from reports.compared import Side, compare_sides
    from reports.pairing import CompareError

    same = a.origin == b.origin
    if same and a.cases == b.cases:
        raise UsageError(
            f"{a.name} is compared with itself: name two runs, or cases of it, as in latest:ncb latest:ntb"
        )
    names = [f"{one.name}:{one.cases}".rstrip(":") for one in (a, b)]
    sides = [Side(name, one.run.info, one.results) for name, one in zip(names, (a, b), strict=True)]
    try:
        return compare_sides(*sides, delta=delta, same_run=same, chosen=bool(a.cases or b.cases), force=force)
    except CompareError as error:
        raise UsageError(str(error)) from None


def _print(args: argparse.Namespace, compared: Compared, report: str | None) -> None:
    from reports.compared import summary_sentence
    from reports.compared_text import document, markdown, print_compared

    if args.json:
        print(json.dumps({**document(compared), "report": report}))
        return
    verdict = summary_sentence(compared)
    if args.markdown:
        title = f"{compared.a.name} against {compared.b.name}"
        print(markdown(compared, title=title, verdict=verdict), end="")
        return
    from reports.console import PlainConsole

    print_compared(compared, PlainConsole(), verdict=verdict)
    if report:
        print(f"\nReport: {options.shown(Path(report))}")
