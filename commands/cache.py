"""`python bench.py cache`: what the artifact cache holds, and how it is made smaller. It asks nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, UsageError, options
from commands.artifact_limit import limit_of, parse_limit

if TYPE_CHECKING:
    from commands.cached_models import Holding
    from converters.cache_trim import Entry, Trimmed

ACTIONS = ("list", "trim", "clear")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", default="list", metavar="list|trim|clear", help="list (the default), trim, clear"
    )
    parser.add_argument(
        "--max-size", metavar="SIZE", help="of trim: 10GB, 512 MiB (default: max_artifacts of bench.toml)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    options.add_config(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from converters.cache import CacheError

    if args.action not in ACTIONS:
        raise UsageError(f"cache: unknown action '{args.action}': {', '.join(ACTIONS)}")
    if args.max_size is not None and args.action != "trim":
        raise UsageError(f"--max-size is for `cache trim`, not for `cache {args.action}`")
    config, base = options.load_config(args)
    root = base / Path(config.paths.artifacts).expanduser()
    if root.exists() and not root.is_dir():
        raise UsageError(f"artifact cache {root}: is no folder: name another with [paths] artifacts")
    try:
        if args.action == "list":
            return _list(root, limit_of(config), as_json=args.json)
        max_bytes = 0 if args.action == "clear" else _max_bytes(args, limit_of(config), root)
        return _remove(root, max_bytes, args)
    except CacheError as error:
        raise UsageError(str(error)) from None


def _list(root: Path, limit: int | None, *, as_json: bool) -> int:
    from commands.cached_models import holdings
    from converters.cache_trim import entries, total_bytes

    found = entries(root)
    rows = holdings(found)
    total = total_bytes(root) if root.is_dir() else 0
    if as_json:
        models = [row.to_dict() for row in rows]
        _print_json(root, {"max_bytes": limit, "total_bytes": total, "count": len(found), "models": models})
        return OK
    _print_holdings(rows)
    print(_summary(root, len(found), total, limit))
    return OK


def _print_holdings(rows: Sequence[Holding]) -> None:
    from reports import formatting as fmt

    width = max((len(row.model) for row in rows), default=0)
    for row in rows:
        size, count = fmt.size(row.size_bytes), fmt.count(row.count, "file")
        print(
            f"  {fmt.printable(row.model):<{width}}  {', '.join(row.backends) or row.kind:<36} {count:>9}"
            f"  {size:>9}  last used {fmt.moment(row.last_used_ns)}"
        )


def _summary(root: Path, count: int, total: int, limit: int | None) -> str:
    from reports import formatting as fmt

    allowed = f"max_artifacts is {fmt.size(limit)}" if limit else "max_artifacts is not set"
    return f"{options.shown(root)}: {fmt.count(count, 'artifact')}, {fmt.size(total)}; {allowed}"


def _max_bytes(args: argparse.Namespace, limit: int | None, root: Path) -> int:
    """Raises UsageError where no size is named, and for one that holds not even the smallest artifact."""
    from converters.cache_trim import entries
    from reports import formatting as fmt

    if args.max_size is None and limit is None:
        raise UsageError("cache trim: how small? Give --max-size 10GB, or set max_artifacts in bench.toml")
    size = limit if args.max_size is None else parse_limit("--max-size", args.max_size)
    assert size is not None
    smallest = min((entry.size_bytes for entry in entries(root)), default=0)
    if size < smallest:
        raise UsageError(
            f"--max-size {args.max_size or fmt.size(size)}: less than the smallest artifact here takes"
            f" ({fmt.size(smallest)}): name a larger one, or remove all with `cache clear`"
        )
    return size


def _remove(root: Path, max_bytes: int, args: argparse.Namespace) -> int:
    from converters.cache_trim import total_bytes, trim

    before = total_bytes(root) if root.is_dir() else 0
    done = trim(root, max_bytes, dry_run=args.dry_run)
    if args.json:
        removed = [_entry(entry) for entry in done.removed]
        kept = [{"key": key, "pid": pid} for key, pid in done.kept.items()]
        sizes = {"before_bytes": before, "left_bytes": done.left_bytes, "dry_run": args.dry_run}
        _print_json(root, {"removed": removed, "in_use": kept, **sizes})
    else:
        _tell(done, before, max_bytes, dry_run=args.dry_run)
    return OK


def _tell(done: Trimmed, before: int, max_bytes: int, *, dry_run: bool) -> None:
    from reports import formatting as fmt

    verb = "would remove" if dry_run else "removed"
    print(
        f"{verb} {fmt.count(len(done.removed), 'artifact')}: {fmt.size(before)} before,"
        f" {fmt.size(done.left_bytes)} after; what is missing is made again when a suite needs it"
    )
    if done.kept and done.left_bytes > max_bytes:
        processes = ", ".join(str(pid) for pid in sorted(set(done.kept.values())))
        print(f"kept {fmt.count(len(done.kept), 'artifact')} that process {processes} is using")


def _entry(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key or entry.folder.name, "size_bytes": entry.size_bytes}


def _print_json(root: Path, value: dict[str, Any]) -> None:
    print(json.dumps({"schema": 1, "folder": str(root), **value}))
