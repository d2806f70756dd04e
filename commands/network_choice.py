"""Networks by pattern: `--model 'timm/*' --exclude GLOB --max-params 30M --max-gmacs 5G`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from commands import UsageError, options
from commands.notes import note
from models.errors import UnknownModelError
from models.patterns import expanded, is_pattern

_COUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([kKmMgG]?)")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def add_arguments(parser: options.Options) -> None:
    options.add_list(parser, "--exclude", "GLOB", "leave out models that fit, such as 'timm/*_384'")
    parser.add_argument("--max-params", metavar="N", help="leave out larger networks, such as 30M parameters")
    parser.add_argument("--max-gmacs", metavar="N", help="leave out costlier networks, such as 5G MACs")


def has_patterns(names: Sequence[str]) -> bool:
    return any(map(is_pattern, names))


def chosen(args: argparse.Namespace, names: Sequence[str]) -> tuple[str, ...]:
    """The models that the command line means. Raises UsageError for a pattern or a size that fits none."""
    exclude = options.values(args.exclude, "--exclude")
    most_params, most_gmacs = _most(args.max_params, "--max-params"), _most(args.max_gmacs, "--max-gmacs")
    if not has_patterns(names):
        _refuse_filters(args)
        return tuple(names)
    try:
        found = expanded(names, exclude=exclude)
    except UnknownModelError as error:
        raise UsageError(f"--model: {error}") from None
    if most_params is None and most_gmacs is None:
        return found
    return _small_enough(args, found, most_params=most_params, most_gmacs=most_gmacs)


def _refuse_filters(args: argparse.Namespace) -> None:
    for name in ("exclude", "max_params", "max_gmacs"):
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} narrows a pattern: give one, such as --model 'timm/resnet*'")


def _small_enough(
    args: argparse.Namespace, names: Sequence[str], *, most_params: float | None, most_gmacs: float | None
) -> tuple[str, ...]:
    """Those within both sizes. What cannot be counted stays in: its conversion says what is wrong with it."""
    from commands.network_sizes import SizesError, sizes_of
    from reports.files import OutputError

    config, base = options.load_config(args)
    try:
        sizes = sizes_of(names, base / Path(config.paths.artifacts).expanduser(), note)
    except (SizesError, OutputError) as error:
        raise UsageError(str(error)) from None
    left = [
        name
        for name in names
        if not _above(sizes[name].params_m, 1e6, most_params)
        and not _above(sizes[name].gmacs, 1e9, most_gmacs)
    ]
    if not left:
        asked = " and ".join(
            f"{option} {text}"
            for option, text in (("--max-params", args.max_params), ("--max-gmacs", args.max_gmacs))
            if text
        )
        raise UsageError(f"{asked}: none of {len(names)} networks is so small: allow more")
    note(f"{len(left)} of {len(names)} networks are small enough")
    return tuple(left)


def _above(value: float | None, unit: float, most: float | None) -> bool:
    return value is not None and most is not None and value * unit > most


def _most(text: str | None, option: str) -> float | None:
    """`30M` as 30e6. Raises UsageError."""
    if text is None:
        return None
    found = _COUNT.fullmatch(text)
    if not found or float(found[1]) <= 0:
        raise UsageError(f"{option}: '{text}' is not a number above 0 written like 30M or 5G")
    return float(found[1]) * _SCALE[found[2].lower()]
