"""Core ML: eager network -> reparameterized -> laid out for the Neural Engine -> exported -> converted.

Conversion runs on any machine with coremltools; running a package needs a Mac or an iPhone. What can be
checked elsewhere is the converted program, evaluated by `converters.mil_interpreter`: in fp32, and in the
program's own types with every result rounded to them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.deployment_forms import places
from converters.divergence import first_divergence, module_outputs
from converters.failures import failure_of
from converters.ledger import Ledger, OnStep, assemble, fuse, ignore_step
from converters.mlpackage_archive import SUFFIX, pack
from converters.mlpackage_compress import COMPRESSIONS
from converters.mlpackage_convert import require_coremltools
from converters.mlpackage_facts import PackageFacts, describe
from converters.mlpackage_graph import exported
from converters.mlpackage_image import fold_std, normalization_of
from converters.mlpackage_layout import relayout
from converters.mlpackage_options import read
from converters.mlpackage_program import Conversion, computed_in, converted
from converters.parity import TOLERANCES
from converters.quiet import captured
from converters.source import build_source, run_eager
from models.spec import Option, forms_left_out

FILE = f"model{SUFFIX}"


def convert(request: ConversionRequest, folder: Path, *, on_step: OnStep = ignore_step) -> Artifact:
    """Write `model.mlpackage.zip` and `tensors.npz` into `folder` and describe them.

    `precision` is `fp32`, `fp16`, or a name of `converters.mlpackage_compress.COMPRESSIONS`: fp16 with
    compressed weights. Tensors are fp32 at both ends; an image input takes pixels from 0 to 255, and the
    inputs in `tensors.npz` are then those. Raises ConversionError (`bad_input`, `unsupported`,
    `export_failed`, `parity_failed`, `precision_mismatch`) and ModelError.
    """
    started = time.perf_counter_ns()
    options = read(request)
    require_coremltools()
    on_step("eager")
    source = build_source(request)
    conversion = Conversion(request, options, Ledger(source, on_step), source.net, source.inputs)
    folded: Mapping[str, int] = {}
    if request.fused:
        conversion.net, report = fuse(conversion.ledger, left_out=forms_left_out(request.build))
        folded = report.folded
    if options.input_type == "image":
        _take_pixels(conversion)
    changed = _lay_out(conversion) if options.layout == "ane" else {}
    program, rewritten = _export(conversion)
    with tempfile.TemporaryDirectory(dir=folder, prefix="package-") as temporary:
        package = converted(conversion, program, Path(temporary))
        told = describe(package)
        pack(package, folder / FILE)
    _require_precision(request, told, conversion.ledger)
    artifact = assemble(
        request,
        conversion.ledger,
        folder / FILE,
        inputs=told.inputs,
        outputs=told.outputs,
        op_counts=told.op_counts,
        batchnorms_left=len(told.batch_norms),
        folded=folded,
        started_ns=started,
    )
    facts = {**told.facts(), **_facts(conversion, changed, rewritten)}
    return replace(artifact, facts={**artifact.facts, **facts})


def _facts(
    conversion: Conversion, changed: Mapping[str, int], rewritten: Mapping[str, int]
) -> dict[str, Option]:
    """What the package does not tell; the layout is `plain` where no module has a form of its own."""
    options = conversion.options
    return {
        "minimum_deployment_target": options.minimum_deployment_target,
        "layout": "ane" if changed else "plain",
        "modules_laid_out": sum(changed.values()),
        **{f"{kind}_rewritten": count for kind, count in rewritten.items()},
    }


def _require_precision(request: ConversionRequest, told: PackageFacts, ledger: Ledger) -> None:
    """Raises ConversionError `precision_mismatch` unless the file computes, and is compressed, as asked."""
    asked = computed_in(request.precision)
    wanted = COMPRESSIONS.get(request.precision)
    kinds = {wanted.kind} if wanted else set()
    if told.precision == asked and set(told.compressions) == kinds:
        return
    found = ", ".join(told.compressions) or "no compressed weights"
    message = f"{request.precision} was asked for; the package computes in {told.precision} with {found}"
    advice = "Ask for fp16: this network has no weights that are large enough to be compressed."
    failure = ConversionFailure(
        "precision_mismatch", "mlpackage", message, advice=advice if wanted else "", steps=tuple(ledger.steps)
    )
    raise ConversionError(failure)


def _take_pixels(conversion: Conversion) -> None:
    """Go on with an image as the input: the reference is the eager network's for the normalized pixels."""
    source = conversion.ledger.source
    normalization = normalization_of(source.net)
    pixels = normalization.pixels(source.inputs)
    conversion.ledger.begin("image")
    conversion.net = fold_std(conversion.net, source.example, normalization.std)
    reference = run_eager(source.net, normalization.normalized(pixels))
    conversion.ledger.source = replace(source, inputs=pixels, reference=reference)
    conversion.given = normalization.shifted(pixels)
    conversion.normalization = normalization
    conversion.ledger.end(
        "image",
        "reparameterize",
        lambda: run_eager(conversion.net, conversion.given),
        note=f"pixels from 0 to 255; mean {normalization.mean} as the input's bias, deviation "
        f"{normalization.std} in the first convolution",
    )


def _lay_out(conversion: Conversion) -> Mapping[str, int]:
    """The `layout` step, where a module has a form of its own."""
    before, given, ledger = conversion.net, conversion.given, conversion.ledger
    net, changed = relayout(before, published=places(forms_left_out(conversion.request.build)))
    if not changed:
        return changed
    ledger.begin("layout")

    def diverged() -> str:
        return first_divergence(
            module_outputs(before, given[0]), module_outputs(net, given[0]), TOLERANCES["fp32"]
        )

    note = ", ".join(f"{count} {kind}" for kind, count in changed.items())
    ledger.end(
        "layout", "converters.mlpackage_layout", lambda: run_eager(net, given), note=note, diverged=diverged
    )
    conversion.net = net
    return changed


def _export(conversion: Conversion) -> tuple[torch.export.ExportedProgram, Mapping[str, int]]:
    ledger, net = conversion.ledger, conversion.net
    ledger.begin("exported")
    with captured() as printed:
        try:
            example, dynamic = _example(conversion)
            program, rewritten = exported(net, example, dynamic)
        except Exception as error:  # the tracer raises anything; all of it becomes the recorded failure
            failure = failure_of(
                error, "exported", net=net, printed=printed.getvalue(), steps=tuple(ledger.steps)
            )
            raise ConversionError(replace(failure, advice=_advice(conversion, failure))) from error
    note = ", ".join(f"{count} {kind.replace('_', ' ')} rewritten" for kind, count in rewritten.items())
    ledger.end(
        "exported",
        f"torch.export {torch.__version__}",
        lambda: run_eager(program.module(), conversion.given),
        note=note,
    )
    return program, rewritten


def _example(conversion: Conversion) -> tuple[torch.Tensor, Any]:
    """What the network is exported with, and which of its axes stay open."""
    options, example = conversion.options, torch.from_numpy(conversion.given[0])
    if options.max_batch:
        example = torch.cat([example, example])  # torch.export takes an axis of length 1 for a constant
        return example, ({0: torch.export.Dim("batch", min=1, max=options.max_batch)},)
    if options.sides:
        # AUTO lets the tracer find conditions on a side, such as an even one; every listed side is run.
        side = torch.export.Dim.AUTO(min=options.sides[0], max=options.sides[-1])
        return example, ({2: side, 3: side},)
    return example, None


def _advice(conversion: Conversion, failure: ConversionFailure) -> str:
    if conversion.options.sides or conversion.options.max_batch:
        return "This network computes with its input's size: convert one package per size."
    return failure.advice
