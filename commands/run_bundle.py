"""`python bench.py run-bundle`: measure a bundle here and write its records for another machine's store."""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands import SOME_FAILED, UsageError, options, run
from commands.timing import check_pin, check_timing

if TYPE_CHECKING:
    from commands.bundle_run import BundleRun

DESCRIPTION = """
Measures the cases of a bundle with this machine's runtimes. Needed here are Python, NumPy, this project's
files and the runtime itself; neither torch nor onnx. Every round is stored as it is taken, so the same
command goes on after an interruption; the records are written at the end, and when interrupted. Bring them
home with `import`.

Every file is checked against the bundle's sha256 before it is loaded. Nothing in a bundle is run as code, and
kinds of files that could run some while they are loaded (exported programs, for the PyTorch backends) are
refused unless --trust names the bundle that you made. Load engines from people you trust only: they hold the
GPU's machine code.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.add_argument("bundle", type=Path, metavar="FILE", help="what `bundle` wrote")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the records, such as records.json"
    )
    parser.add_argument(
        "--store", type=Path, metavar="FILE", help="where rounds are kept (default: beside the records, .db)"
    )
    parser.add_argument("--trust", default="", metavar="SHA256", help="the bundle that you made yourself")
    how = parser.add_argument_group("how long to measure (default: what the bundle says)")
    run.add_timing(how)
    how.add_argument("--fresh", action="store_true", help="measure again, whatever is stored")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    began_ns = time.perf_counter_ns()
    from commands.bundle_contents import bundle_of
    from commands.bundle_run import BundleRun
    from commands.only_one import RunBusyError
    from converters.archive import ArchiveError
    from converters.archive_reader import extract, read_manifest
    from converters.cache import CacheError
    from reports.files import OutputError
    from reports.store import Store, StoreError
    from runners.suite import DeviceBusyError

    store = args.store.expanduser() if args.store else args.output.with_suffix(".db")
    folder = store.with_name(f"{store.name}.files")
    try:
        _check_paths(args, store)
        manifest = read_manifest(args.bundle)
        bundle = bundle_of(manifest, folder, trusted=_sha256(args.trust))
        timing = check_timing(replace(bundle.timing, **run.timing_overrides(args)))
        check_pin(timing, bundle.cases)
        extract(manifest, folder)
        with Store(store) as opened:
            work = BundleRun(replace(bundle, timing=timing), opened, folder, args, began_ns)
            return _go(work, args.output, store)
    except (ArchiveError, CacheError, StoreError, OutputError) as error:
        raise UsageError(str(error)) from None
    except (DeviceBusyError, RunBusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED


def _go(work: BundleRun, output: Path, store: Path) -> int:
    """Records that cannot be written in the end cost no round: the store has them all."""
    from reports.files import OutputError

    try:
        return work.go(output)
    except OutputError as error:
        print(
            f"error: {error}. The rounds are in {store}: run the same command with another -o and"
            f" --store {store}",
            file=sys.stderr,
        )
        return SOME_FAILED


def _sha256(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise UsageError(f"--trust: '{text[:80]}' is no sha256: give the 64 digits that `bundle` printed")
    return text


def _check_paths(args: argparse.Namespace, store: Path) -> None:
    """Nothing that is not ours is overwritten at the end of an hour of measuring."""
    from reports.files import check_writable
    from reports.records_file import is_records_file

    output: Path = args.output
    resolved = [path.resolve() for path in (args.bundle, output, store)]
    if len(set(resolved)) != len(resolved):
        raise UsageError(f"the bundle, the records ({output}) and the store ({store}) must be three files")
    if output.exists() and not output.is_dir() and not (output.is_file() and is_records_file(output)):
        raise UsageError(f"{output} is there and is no file of records: name another with -o")
    check_writable(output, "-o")
