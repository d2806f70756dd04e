"""Which stored run a verb is about."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from commands import UsageError, options
from models.tables import suggest

if TYPE_CHECKING:
    from reports.store import Store, StoredRun


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", metavar="NAME", help="the newest run of this suite (default: of any)")
    parser.add_argument("--run", metavar="N", help="this run, by its number")
    options.add_config(parser)
    options.add_store(parser)


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Store]:
    """The store, for reading. Raises UsageError where there is none or it cannot be read."""
    from reports.files import OutputError
    from reports.store import Store, StoreError

    config, base = options.load_config(args)
    path = options.store_path(args, config, base)
    if not path.exists():
        raise UsageError(f"no result store at {path}: run a suite first, or name one with --store")
    try:
        with Store(path, read_only=True) as store:
            yield store
    except (StoreError, OutputError) as error:
        raise UsageError(str(error)) from None


def chosen(store: Store, args: argparse.Namespace) -> StoredRun:
    """Raises UsageError where the store holds no such run."""
    if args.run is not None:
        return store.load_run(options.positive("--run")(args.run))
    newest = store.latest(args.suite)
    if newest is None:
        suites = sorted({info.suite for info in store.runs()})
        what = f"no run of suite '{args.suite}': {suggest(args.suite, suites)}" if suites else "no run yet"
        raise UsageError(f"{store.path}: {what}")
    return store.load_run(newest.run_id)
