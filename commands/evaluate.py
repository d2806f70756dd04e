"""`python bench.py eval FILE --data FOLDER`: the accuracy of the file that is deployed, measured here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from commands import BAD_INPUT, NOT_TIMED, OK, SOME_FAILED, UsageError, options
from commands.notes import note

if TYPE_CHECKING:
    from commands.eval_predictions import Predictions, Running
    from commands.eval_process import EvaluationError
    from commands.eval_subject import Subject
    from models.image_data import ImageData, Preprocessing
    from reports.evaluations import Evaluation

DESCRIPTION = """
Runs labelled images through a file that is deployed (.onnx, .mlpackage or a zip of one, .pt2, .engine, .plan)
or through a checkpoint (.safetensors, .pth; with --model), and counts: top-1 and top-5 with 95 % intervals,
top-1 by class, and how often the file agrees with the eager model it was made from. A Core ML package is
evaluated as the program that it holds, not by Apple's kernels. Everything is kept in the result store.
"""
EXIT_CODES = (
    "exit codes: 0 evaluated, 1 the runtime failed, or the machine while it read images, 2 bad input,"
    " 3 cannot be run here (an engine)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = f"{parser.description}\n{DESCRIPTION}"
    parser.epilog = EXIT_CODES
    parser.add_argument("artifact", type=Path, metavar="FILE", help="what `convert` wrote, or another's file")
    parser.add_argument(
        "--data", required=True, metavar="FOLDER", help="train/CLASS and val/CLASS of images, or 'digits'"
    )
    parser.add_argument("--split", default="val", metavar="NAME", help="val (default) or train")
    parser.add_argument("--model", metavar="MODEL", help="of a checkpoint, or of a file without a record")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="the weights that the file was made of"
    )
    options.add_list(parser, "--option", "KEY=VALUE", "the builder's own options, such as num_classes=100")
    parser.add_argument("--resolution", metavar="SIDE", help="where the file leaves it open")
    parser.add_argument("--batch-size", metavar="N", help="where the file leaves it open (default: 32)")
    parser.add_argument(
        "--crop", metavar="SHARE", help="share of the resized side that is kept, such as 0.875"
    )
    parser.add_argument(
        "--backend", metavar="NAME", help="what runs an ONNX file: onnxruntime, openvino or rounding"
    )
    parser.add_argument("--threads", default="1", metavar="N", help="of the runtime (default: 1)")
    parser.add_argument("--device", default="cuda", metavar="NAME", help="GPU of an engine (default: cuda)")
    parser.add_argument(
        "--deadline-seconds", default="600", metavar="S", help="for loading, and for each batch (600)"
    )
    parser.add_argument(
        "--trust", default="", metavar="SHA256", help="the .pt2 file that you made: reading one can run code"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every image with what was predicted for it")
    options.add_config(parser)
    options.add_store(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from commands.eval_process import EvaluationError
    from commands.eval_subject import subject_of
    from models.errors import DataError, ReadingError
    from reports.formatting import harmless

    store = options.store_path(args, *options.load_config(args))
    subject = subject_of(args)
    if why := _not_here(subject, args.device):
        print(f"{subject.path} is built, and cannot be evaluated here: {why}", file=sys.stderr)
        return NOT_TIMED
    try:
        evaluation, found = _evaluated(args, subject, store)
    except ReadingError as error:
        print(f"error: --data: {harmless(str(error))}", file=sys.stderr)
        return SOME_FAILED
    except DataError as error:
        raise UsageError(f"--data: {error}") from None
    except EvaluationError as error:
        return _failed(error)
    _keep(args, evaluation, found, subject=subject, path=store)
    return OK


def _not_here(subject: Subject, device: str) -> str | None:
    """Why the file's runtime cannot run it on this machine; for what needs no device that is an error."""
    from runners import BACKENDS, availability

    if subject.backend not in BACKENDS:
        return None
    if subject.kind == "engine":
        return availability(subject.backend, device)
    if why := availability(subject.backend):
        raise UsageError(f"--backend {subject.backend}: {why}")
    return None


def _evaluated(args: argparse.Namespace, subject: Subject, store: Path) -> tuple[Evaluation, Predictions]:
    from commands.eval_predictions import evaluated

    data, running = _data(args, subject), _running(args)
    steps = _steps(args, subject, data)
    _check_outputs(args, store)
    return evaluated(subject, data, steps, running, command=args.command_line, say=note)


def _data(args: argparse.Namespace, subject: Subject) -> ImageData:
    """Raises DataError for no such images, UsageError where the network has not their classes."""
    from commands.eval_predictions import require_classes
    from models.image_data import DIGITS, open_data

    data = open_data(None if args.data == DIGITS else Path(args.data), args.split)
    if subject.classes is not None:
        require_classes(subject, subject.classes, data)
    return data


def _steps(args: argparse.Namespace, subject: Subject, data: ImageData) -> Preprocessing:
    from dataclasses import replace

    from commands.eval_predictions import steps_for

    steps = steps_for(subject, data)
    if args.crop is None:
        return steps
    try:
        crop = float(args.crop)
    except ValueError:
        crop = 0.0
    if not 0.1 <= crop <= 1.0:
        raise UsageError(f"--crop: '{args.crop}' is not a share from 0.1 to 1")
    return replace(steps, crop_pct=crop)


def _running(args: argparse.Namespace) -> Running:
    from commands.eval_predictions import Running

    return Running(
        options.positive("--threads")(args.threads),
        args.device,
        options.seconds("--deadline-seconds")(args.deadline_seconds),
    )


def _check_outputs(args: argparse.Namespace, path: Path) -> None:
    """Before an hour of work: the store is one, and the table can be written. Raises UsageError."""
    from reports.files import OutputError, check_writable
    from reports.store import Store, StoreError

    try:
        if args.csv is not None:
            check_writable(args.csv, "--csv")
        with Store(path):
            pass
    except (OutputError, StoreError) as error:
        raise UsageError(str(error)) from None


def _keep(
    args: argparse.Namespace, evaluation: Evaluation, found: Predictions, *, subject: Subject, path: Path
) -> None:
    from commands import eval_text
    from reports.files import OutputError, write_text
    from reports.store import Store, StoreError

    try:
        with Store(path) as store:
            number = store.add_evaluation(evaluation)
        if args.csv is not None:
            write_text(args.csv, eval_text.table(evaluation, found.names))
    except (OutputError, StoreError) as error:
        raise UsageError(str(error)) from None
    for reason in found.skipped:
        note(f"skipped: {reason}")
    if args.json:
        document = {**_document(evaluation, found, number), "calibration": dict(subject.calibration)}
        print(json.dumps(document, allow_nan=False))
        return
    for line in eval_text.lines(evaluation, subject.calibration):
        print(line)


def _document(evaluation: Evaluation, found: Predictions, number: int) -> dict[str, Any]:
    from commands.eval_text import differences
    from reports.codec import plain

    value: dict[str, Any] = {
        "schema": 1,
        "evaluation": number,
        **evaluation.to_dict(),
        "skipped": list(found.skipped),
        "differences": differences(evaluation, found.names),
    }
    return cast(dict[str, Any], plain(value))


def _failed(error: EvaluationError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return SOME_FAILED if error.kind == "failed" else BAD_INPUT
