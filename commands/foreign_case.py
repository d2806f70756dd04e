"""The case that another tool timed: its file does not tell, so the command line does."""

from __future__ import annotations

import argparse

from commands import UsageError, options
from models.spec import PRECISIONS, Case, ModelSpec, sorted_options
from models.tables import suggest


def case_of(args: argparse.Namespace, tool: str, *, device: str, threads: int = 1) -> Case:
    """From --model, --resolution, --precision and --batch-size; --device-name has to be there too.

    Raises UsageError for what is missing or unknown.
    """
    for name in ("model", "precision", "device_name"):
        if not getattr(args, name):
            raise UsageError(f"--as {tool}: --{name.replace('_', '-')} is missing; the file does not tell it")
    if args.precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{args.precision}': {suggest(args.precision, PRECISIONS)}")
    batch_size = options.positive("--batch-size")(args.batch_size or "1")
    return Case(
        _spec(args), tool, batch_size=batch_size, precision=args.precision, device=device, threads=threads
    )


def _spec(args: argparse.Namespace) -> ModelSpec:
    from commands.config import parse_shape
    from models.errors import ModelError
    from models.info import INFO, check

    given = args.resolution or str(INFO[args.model].resolution if args.model in INFO else 224)
    chosen = {}
    if "x" in given:
        side, chosen["in_channels"] = parse_shape(given)
    else:
        side = options.positive("--resolution")(given)
    spec = ModelSpec(args.model, side, sorted_options(chosen))
    try:
        check(spec)
    except (ModelError, ValueError) as error:
        raise UsageError(str(error)) from None
    return spec
