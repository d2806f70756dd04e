"""`python bench.py verify FILE`: read a model file back, and compare what it computes with a model."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import NOT_TIMED, OK, SOME_FAILED, UsageError, options

if TYPE_CHECKING:
    from commands.verify_parity import Verdict
    from converters.read_back import FileFacts

DESCRIPTION = """
Reads a file back (.mlpackage or a zip of one, .onnx, .pt2, .engine, .plan), this project's or another's:
precision, compression, operators, inputs and outputs. With --against it runs the file on seeded inputs and
compares the outputs with the eager model's. A Core ML package is evaluated as the program that it holds, not
by Apple's kernels; an engine needs its GPU, so it is described only.
"""
SHOWN_BEFORE = ("operators", "computes", "package_bytes")
EXIT_CODES = "exit codes: 0 read (and equal), 1 outputs differ, 2 bad input, 3 cannot be run here (an engine)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.epilog = EXIT_CODES
    parser.add_argument("file", type=Path, metavar="FILE", help="what `convert` wrote, or another's file")
    parser.add_argument(
        "--against", metavar="MODEL", help="such as nextvit_small, block/ncb or timm/resnet50"
    )
    parser.add_argument("--resolution", metavar="SIDE", help="as for convert (default: the file's)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=".safetensors, .pth or .pt")
    options.add_list(parser, "--option", "KEY=VALUE", "the builder's own options, such as num_classes=100")
    parser.add_argument("--seed", metavar="N", default="0", help="of the inputs (default: 0)")
    parser.add_argument("--inputs", metavar="N", default="4", help="how many inputs (default: 4)")
    parser.add_argument(
        "--tolerance", metavar="X", help="largest difference, relative to the largest output (by precision)"
    )
    parser.add_argument(
        "--trust", default="", metavar="SHA256", help="the .pt2 file that you made: reading one can run code"
    )
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from converters.read_back import ReadBackError, read_back

    if args.against is None:
        _refuse_without_model(args)
    try:
        facts = read_back(args.file, trusted=args.trust)
        verdict = _verdict(args, facts) if args.against is not None and facts.outputs_for else None
    except ReadBackError as error:
        raise UsageError(str(error)) from None
    _show(facts, verdict, as_json=args.json)
    if facts.outputs_for is None:
        return NOT_TIMED
    return OK if verdict is None or verdict.passed else SOME_FAILED


def _refuse_without_model(args: argparse.Namespace) -> None:
    given = {"--resolution": args.resolution, "--checkpoint": args.checkpoint, "--tolerance": args.tolerance}
    chosen = [name for name, value in given.items() if value] + (["--option"] if args.option else [])
    if chosen:
        raise UsageError(f"{', '.join(chosen)}: of the model to compare with; name it with --against")


def _verdict(args: argparse.Namespace, facts: FileFacts) -> Verdict:
    from commands.verify_parity import Against, compared

    return compared(
        facts,
        Against(
            model=args.against,
            resolution=args.resolution,
            checkpoint=args.checkpoint,
            options=options.option_values(args.option, "--option"),
            seed=_seed(args.seed),
            count=options.positive("--inputs")(args.inputs),
            tolerance=_tolerance(args.tolerance),
        ),
    )


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"--seed: '{text}' is not a whole number of at least 0")
    return int(text)


def _tolerance(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--tolerance: '{text}' is not a number above 0")
    return value


def _show(facts: FileFacts, verdict: Verdict | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_document(facts, verdict), allow_nan=False))
        return
    print(f"{facts.path} ({facts.kind}, {facts.size_bytes / 1e6:.1f} MB)")
    for name, value in _lines(facts):
        print(f"  {name:<22} {value}")
    for name, value in verdict.lines() if verdict else ():
        print(f"  {name:<22} {value}")


def _lines(facts: FileFacts) -> list[tuple[str, str]]:
    lines = [("sha256", facts.sha256)]
    if facts.precision:
        lines.append(("precision", facts.precision))
        stored = ", ".join(f"{count} {name}" for name, count in facts.compression.items())
        lines.append(("compression", stored or "none"))
    for name, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        lines += [(name, f"{t.name} {t.dtype} {'x'.join(map(str, t.shape))}") for t in tensors]
    if facts.op_counts:
        ranked = sorted(facts.op_counts.items(), key=lambda item: (-item[1], item[0]))
        total = sum(facts.op_counts.values())
        lines.append(("operators", f"{total}: {', '.join(f'{count} {name}' for name, count in ranked)}"))
        lines.append(("BatchNorms", f"{facts.batchnorms_left} left"))
    lines += [(name, str(value)) for name, value in facts.facts.items() if name not in SHOWN_BEFORE]
    if facts.outputs_for is None:
        lines.append(("not run", "an engine needs the GPU and the runtime that it was built for"))
    return lines


def _document(facts: FileFacts, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "file": str(facts.path),
        "kind": facts.kind,
        "sha256": facts.sha256,
        "size_bytes": facts.size_bytes,
        "precision": facts.precision,
        "compression": dict(facts.compression),
        "inputs": [_tensor(t) for t in facts.inputs],
        "outputs": [_tensor(t) for t in facts.outputs],
        "op_counts": dict(facts.op_counts),
        "batchnorms_left": facts.batchnorms_left,
        "facts": dict(facts.facts),
        "parity": None if verdict is None else verdict.to_dict(),
    }


def _tensor(value: Any) -> dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "shape": list(value.shape)}
