"""`python bench.py history CASE`: one case, or all cases of a model, over all stored runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from commands import OK, UsageError, options, references
from commands.answer_report import report_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.spec import Case
    from reports.history import Series
    from reports.store import Store

DESCRIPTION = """
Every stored run of a case: its median with the interval, the git revision, and where the level changes.
Cases are named by words of their labels; protocols and machines are kept apart.

  python bench.py history ncb 14x14x384
  python bench.py history nextvit_small --last 50 --report history.html
"""
_LAST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("words", nargs="*", metavar="CASE|MODEL", help="words of a case's label, or its id")
    parser.add_argument("--last", metavar="N", help=f"runs to list in the terminal (default: {_LAST})")
    options.add_config(parser)
    options.add_store(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="an HTML report with a section for it")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    words = [word for text in args.words for word in text.split()]
    if not words:
        raise UsageError("history: name a case or a model, such as `history ncb 14x14x384`")
    last = options.positive("--last")(args.last) if args.last is not None else _LAST
    options.check_report(args)
    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    with references.opened(path) as store:
        if store is None:
            raise UsageError(f"no result store at {path}: run a suite first, or name one with --store")
        series = _series(store, words)
        report = None
        if args.report:
            from reports.history_page import section
            from reports.run_order import taken_order

            shown = {point.run_id for one in series for point in one.points}
            newest = [number for number in taken_order(store.runs()) if number in shown][-1]
            report = report_with(section(series, " ".join(words)), store.load_run(newest), args.report)
    _print(args, series, report, last)
    return OK


def _series(store: Store, words: Sequence[str]) -> list[Series]:
    from reports.history import series_of

    found = [one for case in _cases(store, words) for one in series_of(case, store.history(case.id))]
    if not found:
        raise UsageError(
            f"{store.path}: '{' '.join(words)}' was planned and never measured: run its suite again"
        )
    return found


def _cases(store: Store, words: Sequence[str]) -> list[Case]:
    """Those with all the words in their label; what a gate measured as BASE only where it is asked for."""
    from reports.baseline import is_baseline

    known = store.cases()
    wanted = set(words)
    asked = any(word.startswith("baseline=") for word in words)
    chosen = [c for c in known if references.words_of(c) >= wanted and (asked or not is_baseline(c))]
    if not chosen:
        raise references.no_such_case(str(store.path), words, known)
    return sorted(chosen, key=lambda case: case.label)


def _print(args: argparse.Namespace, series: Sequence[Series], report: str | None, last: int) -> None:
    if args.json:
        from reports.history import document

        print(json.dumps({**document(series), "report": report}))
        return
    from reports.console import PlainConsole
    from reports.history_text import print_history

    print_history(series, PlainConsole(), last=last)
    if report:
        print(f"\nReport: {options.shown(Path(report))}")
