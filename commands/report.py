"""`python bench.py report`: the report of a stored run again, or the list of stored runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, options, stored

if TYPE_CHECKING:
    from reports.store import RunInfo, StoredRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stored.add_run(parser)
    parser.add_argument("--list", action="store_true", help="list the stored runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: results/SUITE.html")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    with stored.opened(args) as store:
        if args.list:
            _list(store.runs(), as_json=args.json)
            return OK
        run = stored.chosen(store, args)
        config, base = options.load_config(args)
        path = args.output or base / config.paths.reports / f"{_stem(run.info)}.html"
        from commands.published import published_figures, published_points, unread_figures
        from reports.html import write_report

        published, unread = published_figures(run), unread_figures(run)
        write_report(run, path, published=published, points=published_points(run), unread=unread)
        if args.json:
            print(json.dumps({**_document(run, path), "unread_published": unread}))
            return OK
        from reports.console import PlainConsole
        from reports.terminal import print_table

        print_table(run, PlainConsole(), published=published, unread=unread)
        print(f"\nReport: {options.shown(path)}")
    return OK


def _document(run: StoredRun, path: Path) -> dict[str, Any]:
    """With what was evaluated, and with the networks of one latency where the run has them."""
    from reports.codec import plain
    from reports.matched_run import documents
    from reports.measured_accuracy import evaluation_documents

    told = {"schema": 1, "run_id": run.info.run_id, "report": str(path)}
    return {**told, "evaluations": plain(evaluation_documents(run)), **documents(run)}


def _stem(info: RunInfo) -> str:
    """The suite's name, as `run` names its report; what no suite is called becomes a name in that folder."""
    from reports.formatting import slug
    from reports.records import SUITE_NAME

    return info.suite if SUITE_NAME.fullmatch(info.suite) else slug(f"{info.suite}-run-{info.run_id}")


def _list(runs: list[RunInfo], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "run_id": run.run_id,
                "suite": run.suite,
                "started_at_ns": run.started_at_ns,
                "finished_at_ns": run.finished_at_ns,
                "cases": len(run.case_ids),
                "command": run.command,
            }
            for run in runs
        ]
        print(json.dumps({"schema": 1, "runs": rows}))
        return
    from reports.formatting import moment, printable

    for run in runs:
        state = "" if run.finished_at_ns is not None else ", not finished"
        when = f"{moment(run.started_at_ns):<20}"
        print(f"{run.run_id:>4}  {when}  {printable(run.suite):<12} {len(run.case_ids)} cases{state}")
