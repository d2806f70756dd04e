"""`python bench.py export`: a stored run as a file that other tools read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from commands import OK, UsageError, options, stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stored.add_run(parser)
    parser.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        help="csv, samples-csv, json, parquet, pytest-benchmark, records",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from reports.export import ExportError, export

    with stored.opened(args) as store:
        run = stored.chosen(store, args)
        try:
            export(run, args.format, args.output)
        except ExportError as error:
            raise UsageError(str(error)) from None
    if args.json:
        print(json.dumps({"schema": 1, "run_id": run.info.run_id, "file": str(args.output)}))
    else:
        print(f"run {run.info.run_id} written to {args.output}")
    return OK
