"""`python bench.py convert MODEL --to onnx -o DIR`: one file with its parity ledger beside it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import OK, SOME_FAILED, UsageError, calibrations, options
from commands.model_options import model_spec
from commands.notes import note
from models.spec import PRECISIONS, ModelSpec, sorted_options
from models.tables import suggest

if TYPE_CHECKING:
    from converters.artifact import Artifact, ConversionRequest

TARGETS = {
    "onnx": "onnx",
    "exported-program": "exported_program",
    "trt": "engine",
    "coreml": "mlpackage",
}
HINTS = {"openvino": "OpenVINO reads the ONNX file as it is: use --to onnx"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="such as nextvit_small, block/ncb or timm/resnet50")
    parser.add_argument("--to", required=True, metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--resolution", metavar="SIDE", help="image side, or a block's shape (14x14x384)")
    parser.add_argument("--batch-size", metavar="N", default="1")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help=", ".join(PRECISIONS))
    parser.add_argument(
        "--flavour", default="", metavar="NAME", help="what an int8 ONNX file is for: cpu (default), or trt"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=".safetensors, .pth or .pt")
    calibrations.add_arguments(parser)
    parser.add_argument(
        "--target", default="", metavar="SM", help="GPU that an engine is for (default: this one)"
    )
    options.add_options(parser, "--build", "an option of the toolchain, such as optimization_level=5")
    parser.add_argument("--unfused", action="store_true", help="leave BatchNorms and branches as they are")
    options.add_list(parser, "--option", "KEY=VALUE", "the builder's own options, such as num_classes=100")
    options.add_config(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from commands.artifact_limit import ArtifactLimit, limit_of
    from commands.gpu_lock import GpuLock
    from converters import check
    from converters.artifact import ConversionError
    from converters.cache import ArtifactCache, CacheError
    from converters.cache_use import keys_of, leased
    from converters.conversion import convert

    config, base = options.load_config(args)
    request = _request(args)
    try:
        check(request)
        lock = GpuLock(note)
        root = base / Path(config.paths.artifacts).expanduser()
        with leased(root, keys_of([request])):
            artifact = convert(request, ArtifactCache(root), hold=lock.hold)
            written = _copy(artifact, args.output)
        ArtifactLimit(root, limit_of(config), note).hold()
    except ConversionError as error:
        return _failed(error)
    except (CacheError, OSError) as error:
        raise UsageError(str(error)) from None
    _print(artifact, written, as_json=args.json)
    return OK


def _request(args: argparse.Namespace) -> ConversionRequest:
    from converters.artifact import ConversionRequest

    if args.to not in TARGETS:
        raise UsageError(f"unknown target '{args.to}': {HINTS.get(args.to) or suggest(args.to, TARGETS)}")
    if args.precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{args.precision}': {suggest(args.precision, PRECISIONS)}")
    calibration, data = _calibration(args)
    return ConversionRequest(
        _spec(args),
        TARGETS[args.to],
        batch_size=options.positive("--batch-size")(args.batch_size),
        precision=args.precision,
        fused=not args.unfused,
        checkpoint=args.checkpoint,
        target=args.target,
        flavour=_flavour(args),
        build=sorted_options(options.option_values(args.build, "--build")),
        calibration=calibration,
        calibration_data=data,
    )


def _calibration(args: argparse.Namespace) -> tuple[str, str]:
    """The images as a request holds them, and where they lie. Raises UsageError for none, or without int8."""
    count = calibrations.count_of(args)
    if args.calibrate is None:
        return "", ""
    if args.precision != calibrations.PRECISION:
        raise UsageError(
            f"{calibrations.OPTION} {args.calibrate}: is for --precision {calibrations.PRECISION}:"
            f" {args.precision} has no ranges to find"
        )
    data = calibrations.data_of(args.calibrate)
    return calibrations.named(data, count, calibrations.OPTION), data


def _flavour(args: argparse.Namespace) -> str:
    """The flavour asked for, or the first that the kind of file has: an int8 graph has to have one."""
    from converters import FLAVOURS

    flavours = FLAVOURS.get(TARGETS[args.to], ())
    return args.flavour or (flavours[0] if args.precision == "int8" and flavours else "")


def _spec(args: argparse.Namespace) -> ModelSpec:
    chosen = options.option_values(args.option, "--option")
    return model_spec(args.model, resolution=args.resolution, chosen=chosen, checkpoint=args.checkpoint)


def _copy(artifact: Artifact, folder: Path) -> Path:
    """The file under a name that says what it is, and its facts as JSON beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = artifact.model.name.replace("/", "-")
    stem = f"{model}-{artifact.model.shape_label}-{artifact.precision}{'' if artifact.fused else '-unfused'}"
    stem += f"-{artifact.flavour}" if artifact.flavour else ""
    if artifact.batch_size != 1:
        stem += f"-batch{artifact.batch_size}"
    if told := artifact.facts.get("target"):
        stem += f"-{told}"
    more = artifact.build or "calibration_sha256" in artifact.facts
    if not artifact.model.weights.startswith("random:") or _more_options(artifact.model) or more:
        stem += f"-{artifact.key[:8]}"  # weights, options and images that the name cannot tell
    written = _written(artifact, folder, stem)
    facts: dict[str, Any] = artifact.to_dict()
    facts["path"] = written.name
    del facts["tensors"], facts["tensors_sha256"]  # they stay in the cache
    (folder / f"{stem}.json").write_text(json.dumps(facts, indent=1, sort_keys=True))
    return written


def _written(artifact: Artifact, folder: Path, stem: str) -> Path:
    """The file, or of a Core ML package the folder that other tools open."""
    if artifact.kind != "mlpackage":
        written = folder / f"{stem}{artifact.path.suffix}"
        shutil.copyfile(artifact.path, written)
        return written
    from converters.mlpackage_archive import unpack

    written = folder / f"{stem}.mlpackage"
    try:
        unpack(artifact.path, written)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return written


def _more_options(model: ModelSpec) -> bool:
    return any(name != "in_channels" for name, _ in model.options)


def _failed(error: Any) -> int:
    failure = error.failure
    where = "".join(
        f"\n  {name}: {value}"
        for name, value in (
            ("operator", failure.operator),
            ("module", failure.module),
            ("source", failure.source_line),
            ("advice", failure.advice),
        )
        if value
    )
    if failure.kind == "bad_input":
        raise UsageError(f"{failure.message}{where}")
    print(f"error: {failure.step}: {failure.message}{where}", file=sys.stderr)
    return SOME_FAILED


def _print(artifact: Artifact, written: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"schema": 1, **artifact.to_dict(), "path": str(written)}))
        return
    for step in artifact.steps:
        parity = step.parity
        measured = "not compared"
        if parity:
            agreed = f"{parity.top1_agreeing} of {parity.top1_positions}"
            measured = f"max relative error {parity.max_relative:.1e}, top-1 as eager {agreed}"
        print(f"{step.name:<12} {measured:<52} {step.tool}")
    folded = ", ".join(f"{count} {name}" for name, count in artifact.folded.items()) or "nothing"
    print(f"folded: {folded}; BatchNorms left: {artifact.batchnorms_left}")
    print(f"{written} ({artifact.size_bytes / 1e6:.1f} MB, {sum(artifact.op_counts.values())} operators)")
