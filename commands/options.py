"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError
from models.spec import Option

if TYPE_CHECKING:
    from commands.config import Config

Options = argparse.ArgumentParser | argparse._ArgumentGroup
CONFIG = Path(__file__).resolve().parent.parent / "bench.toml"


def add_config(parser: Options) -> None:
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="default: bench.toml")


def add_store(parser: Options) -> None:
    parser.add_argument("--store", type=Path, metavar="FILE", help="result store (default: bench.toml's)")


def add_json(parser: Options) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else")


def add_output(parser: Options) -> None:
    """How a comparison is told: a table in the terminal unless asked for otherwise."""
    parser.add_argument("--markdown", action="store_true", help="a table for a pull request, on stdout")
    parser.add_argument("--report", type=Path, metavar="FILE", help="an HTML report with a section for it")
    add_json(parser)


def check_one_output(args: argparse.Namespace) -> None:
    """Raises UsageError where stdout would have to be two things, or the report cannot be written."""
    if args.json and args.markdown:
        raise UsageError("--json and --markdown: stdout is one of them")
    check_report(args)


def check_report(args: argparse.Namespace) -> None:
    """Raises UsageError where the report that was asked for cannot be written."""
    from reports.files import OutputError, check_writable

    if args.report is not None:
        try:
            check_writable(args.report, "--report")
        except OutputError as error:
            raise UsageError(str(error)) from None


def add_list(parser: Options, name: str, metavar: str, description: str) -> None:
    """An option whose values are separated by commas or given by repeating it."""
    parser.add_argument(name, action="append", default=[], metavar=metavar, help=description)


def add_options(parser: Options, name: str, description: str) -> None:
    """An option that sets one name at a time and is repeated for more."""
    parser.add_argument(name, action="append", default=[], metavar="NAME=VALUE", help=description)


def values(given: Sequence[str], option: str) -> tuple[str, ...]:
    """The values of a list option, in order, without repetition. Raises UsageError for an empty one."""
    parts = [part.strip() for text in given for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option}: an empty value in '{','.join(given)}'")
    return tuple(dict.fromkeys(parts))


def integers(given: Sequence[str], option: str) -> tuple[int, ...]:
    """Like `values`, for whole numbers of at least 1."""
    return tuple(positive(option)(part) for part in values(given, option))


def positive(option: str) -> Callable[[str], int]:
    """A reader of whole numbers of at least 1. Raises UsageError."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
            raise UsageError(f"{option}: '{text}' is not a whole number of at least 1")
        return int(text)

    return read


def seconds(option: str, *, zero: bool = False) -> Callable[[str], float]:
    """A reader of a duration in seconds, of 0 too where `zero` allows it. Raises UsageError."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (value > 0 or (zero and value == 0)) or value > 7 * 24 * 3600:
            least = "of at least 0" if zero else "above 0"
            raise UsageError(f"{option}: '{text}' is not a number of seconds {least}")
        return value

    return read


def share(option: str) -> Callable[[str], float]:
    """A reader of `1%` or `0.01`: from 0 to below 1. Raises UsageError."""

    def read(text: str) -> float:
        number, percent = text.removesuffix("%").strip(), text.endswith("%")
        try:
            value = float(number) / (100.0 if percent else 1.0)
        except ValueError:
            value = math.nan
        if not 0.0 <= value < 1.0:
            raise UsageError(f"{option}: '{text}' is not a share like 1% or 0.01, at least 0 and below 100%")
        return value

    return read


def cores(option: str) -> Callable[[str], str]:
    """A reader of `off` or a list of cores such as `2,3`, of this machine or another. Raises UsageError."""

    def read(text: str) -> str:
        from runners import affinity

        try:
            affinity.parse(text)
        except affinity.PinError as error:
            raise UsageError(f"{option}: {error}") from None
        return text

    return read


def option_values(given: Sequence[str], option: str) -> dict[str, Option]:
    """The table of a repeated `NAME=VALUE`. Raises UsageError for another form and for a name given twice."""
    found: dict[str, Option] = {}
    for text in given:
        name, value = option_value(text, option)
        if name in found:
            raise UsageError(f"{option}: '{name}' is given twice")
        found[name] = value
    return found


def option_value(text: str, option: str) -> tuple[str, Option]:
    """`cuda_graph=true` as (name, value): true and false, then whole and decimal numbers, then words."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{option}: '{text}' is not written like NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        if not math.isfinite(number):
            break
        return name, number
    return name, value


def load_config(args: argparse.Namespace) -> tuple[Config, Path]:
    """The checked configuration and the folder that its paths are relative to."""
    from commands.config import load

    path: Path = args.config
    return load(path), path.resolve().parent


def store_path(args: argparse.Namespace, config: Config, base: Path) -> Path:
    chosen: Path | None = args.store
    return chosen.expanduser() if chosen is not None else base / Path(config.paths.store).expanduser()


def shown(path: Path) -> str:
    """Relative where that is shorter, as in `results/blocks.html`."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())
