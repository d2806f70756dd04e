"""`python bench.py train`: weights for a model, from images; without options a small Next-ViT on digits."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, SOME_FAILED, UsageError, options
from models.image_data import DIGITS
from reports import formatting
from reports.progress import Progress

if TYPE_CHECKING:
    from models.recipe import Recipe
    from models.training_request import Epoch, TrainRequest, TrainResult

MODEL = "nextvit_micro"
MAX_WORKERS = 8
REDRAW_NS = 100_000_000
SHORTCUTS = ("epochs", "batch_size", "lr", "resolution", "precision", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=MODEL, metavar="NAME", help=f"default: {MODEL}")
    parser.add_argument(
        "--data",
        default=DIGITS,
        metavar="DIR",
        help=f"train/CLASS/*.jpg and val/CLASS/*.jpg (default: {DIGITS})",
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="nextvit, nextvit-384, or digits (default for digits)"
    )
    for name in SHORTCUTS:
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="VALUE", help=f"the same as --set {name}=VALUE"
        )
    options.add_options(parser, "--set", "another setting of the preset, such as weight_decay=0.1")
    options.add_list(parser, "--option", "KEY=VALUE", "the builder's own options")
    parser.add_argument("--from", dest="start", type=Path, metavar="FILE", help="weights to fine-tune")
    parser.add_argument("--teacher", default="", metavar="NAME", help="a model whose answers are learned too")
    parser.add_argument("--teacher-checkpoint", type=Path, metavar="FILE", help="the teacher's weights")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: training/MODEL-DATA")
    parser.add_argument("--resume", action="store_true", help="go on with the training in the output folder")
    _add_placement(parser)
    options.add_json(parser)


def _add_placement(parser: argparse.ArgumentParser) -> None:
    """What decides where and how fast it runs, and leaves the numbers alone but for their rounding."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument(
        "--workers", metavar="N", help=f"processes that decode images (at most {MAX_WORKERS})"
    )
    parser.add_argument("--accumulate", metavar="N", default="1", help="parts that a batch is taken in")
    parser.add_argument("--save-every", metavar="STEPS", help="checkpoints within an epoch too")
    parser.add_argument("--channels-last", action="store_true", help="the other layout in memory")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")


def execute(args: argparse.Namespace) -> int:
    from models.errors import DataError, ModelError
    from models.training_request import TrainingStopped

    try:
        request = _request(args)
        result = _train(request)
    except (ModelError, DataError) as error:
        raise UsageError(str(error)) from None
    except TrainingStopped as error:
        print(f"error: {formatting.harmless(str(error))}", file=sys.stderr)
        return SOME_FAILED
    if os.environ.get("RANK", "0") == "0":
        _print(request, result, as_json=args.json)
    return OK


def _train(request: TrainRequest) -> TrainResult:
    from models.trainer import train
    from models.training_files import SaveError

    with Progress() as progress:
        try:
            return train(request, _Display(progress))
        except SaveError as error:
            raise UsageError(str(error)) from None


def _request(args: argparse.Namespace) -> TrainRequest:
    from models.spec import ModelSpec, sorted_options
    from models.training_plan import check_trainable
    from models.training_request import TrainRequest

    data = None if args.data == DIGITS else Path(args.data)
    recipe = _recipe(args, data)
    chosen = sorted_options(options.option_values(args.option, "--option"))
    check_trainable(ModelSpec(args.model, recipe.resolution, chosen))
    _check_teacher(args)
    device = args.device or _best_device()
    _check_device(device, recipe)
    return TrainRequest(
        model=args.model,
        recipe=recipe,
        output=args.output or _default_output(args.model, data),
        options=chosen,
        data=data,
        start=args.start,
        resume=args.resume,
        teacher=args.teacher,
        teacher_checkpoint=args.teacher_checkpoint,
        device=device,
        workers=_workers(args, data),
        accumulate=options.positive("--accumulate")(args.accumulate),
        save_every=options.positive("--save-every")(args.save_every) if args.save_every else 0,
        compiled=args.compile,
        channels_last=args.channels_last,
    )


def _recipe(args: argparse.Namespace, data: Path | None) -> Recipe:
    from models.recipe import recipe

    changes = options.option_values(args.set, "--set")
    for name in SHORTCUTS:
        if (value := getattr(args, name)) is None:
            continue
        if name in changes:
            raise UsageError(f"--set: '{name}' is given twice")
        changes |= options.option_values([f"{name}={value}"], f"--{name.replace('_', '-')}")
    preset = args.preset or ("digits" if data is None else "nextvit")
    return recipe(preset, model=args.model, changes=changes)


def _check_teacher(args: argparse.Namespace) -> None:
    from models.info import check_name

    if bool(args.teacher) != (args.teacher_checkpoint is not None):
        raise UsageError(
            "--teacher and --teacher-checkpoint: a teacher needs its weights: give both, or neither"
        )
    if args.teacher:
        check_name(args.teacher)


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_device(device: str, recipe: Recipe) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no NVIDIA GPU here: use --device cpu")
    if device == "cuda" and recipe.precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise UsageError("--precision bf16: this GPU does not compute in bf16: use fp16")


def _default_output(model: str, data: Path | None) -> Path:
    return Path("training") / f"{model.replace('/', '-')}-{DIGITS if data is None else data.resolve().name}"


def _workers(args: argparse.Namespace, data: Path | None) -> int:
    """As asked, or the cores that this process has to itself; digits need no decoding."""
    if args.workers is not None:
        return 0 if args.workers == "0" else options.positive("--workers")(args.workers)
    if data is None:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class _Display:
    """The trainer's observer: a bar on a terminal, a line an epoch everywhere."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._first: tuple[int, int] | None = None  # step and time of the first event
        self._shown_ns = 0

    def step(self, done: int, total: int, *, epoch: int, loss: float) -> None:
        now = time.monotonic_ns()
        first_done, began = self._first = self._first or (done, now)
        if now - self._shown_ns < REDRAW_NS and done != total:
            return
        self._shown_ns = now
        eta_ns = round((now - began) / (done - first_done) * (total - done)) if done > first_done else None
        self._progress.training(done, total, f"Training, epoch {epoch}, loss {loss:.3f}", eta_ns=eta_ns)

    def epoch(self, epoch: Epoch, *, epochs: int) -> None:
        best = ", the best so far" if epoch.best else ""
        self._progress.note(
            f"epoch {epoch.epoch} of {epochs}: loss {epoch.train_loss:.4f}, val loss {epoch.val_loss:.4f},"
            f" top-1 {100 * epoch.top1:.2f} %{best}; {epoch.images_per_second:.0f} images/s,"
            f" peak {formatting.size(epoch.peak_memory_bytes)}"
        )

    def note(self, text: str) -> None:
        self._progress.note(text)


def _print(request: TrainRequest, result: TrainResult, *, as_json: bool) -> None:
    best = result.best_epoch
    if as_json:
        document: dict[str, Any] = {
            "schema": 1,
            "model": request.model,
            "recipe": request.recipe.model_dump(),
            "epochs": [epoch.to_dict() for epoch in result.epochs],
            "best": str(result.best),
            "last": str(result.last),
            "unreadable": list(result.unreadable),
            "new_classifier": result.new_classifier.to_dict() if result.new_classifier else None,
        }
        print(json.dumps(document))
        return
    if result.new_classifier is not None:
        print(f"begun with {result.new_classifier}")
    if result.unreadable:
        print(f"left out: {formatting.count(len(result.unreadable), 'image')} that cannot be read")
    print(f"best: top-1 {100 * best.top1:.2f} % in epoch {best.epoch}: {options.shown(result.best)}")
    print(f"last: top-1 {100 * result.epochs[-1].top1:.2f} %: {options.shown(result.last)}")
