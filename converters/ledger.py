"""The parity ledger that every converter keeps: what was made, with what, and how equal it still is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from converters.artifact import (
    NO_COSINE,
    Artifact,
    ConversionError,
    ConversionFailure,
    ConversionRequest,
    Parity,
    Step,
    TensorInfo,
)
from converters.deployment_forms import FORMS, Form, formed, has
from converters.divergence import first_divergence, module_outputs
from converters.failures import failure_of
from converters.files import sha256_of
from converters.keys import cache_key, toolchain
from converters.modules import module_kinds
from converters.parity import LEAST_COSINES, TOLERANCES, Array, compare, widened
from converters.quiet import captured
from converters.reparameterization import FusionReport, reparameterize_with_report
from converters.source import Source, run_eager
from models.counting import count
from models.spec import WITHOUT_FORM, replaced_fact

OnStep = Callable[[str], None]


def ignore_step(name: str) -> None:
    """The `on_step` of a caller who does not want to know."""


class Ledger:
    """Steps in order. A step whose parity fails raises ConversionError with all steps so far.

    `counts` are those of the network as it is by now, at batch 1: branches that were merged are counted once.
    `replaced` are how many modules each form for deployment replaced, by the form's name.
    """

    def __init__(self, source: Source, on_step: OnStep, steps: Sequence[Step] = ()) -> None:
        self.source = source
        self.counts = source.counts
        self.steps = list(steps)
        self.replaced: dict[str, int] = {}
        self._on_step = on_step
        self._started = 0
        self._rounding: float | None = None

    def fork(self, source: Source | None = None) -> Ledger:
        """A ledger that goes on from here on its own, compared with `source` where one is given."""
        forked = Ledger(source or self.source, self._on_step, self.steps)
        forked.counts, forked.replaced = self.counts, dict(self.replaced)
        return forked

    def begin(self, name: str) -> None:
        self._on_step(name)
        self._started = time.perf_counter_ns()

    def end(
        self,
        name: str,
        tool: str,
        run: Callable[[], Sequence[Array]],
        *,
        precision: str = "fp32",
        note: str = "",
        diverged: Callable[[], str] = lambda: "",
        judged: Source | None = None,
    ) -> None:
        """Enter a step that just ended: `run` gives its outputs, `diverged` looks for the first module.

        They are the outputs for the inputs of `judged`, where those are others than the ledger's own.
        """
        duration = time.perf_counter_ns() - self._started
        parity = self._compare(name, run, precision, (judged or self.source).reference)
        module, unknown = ("", "") if parity.passed else _first_module(diverged)
        note = "; ".join(filter(None, (note, unknown)))
        if parity.tolerance > TOLERANCES[precision]:
            wider = f"tolerance widened: eager fp32 is {self._rounding:.1e} off its float64 outputs"
            note = "; ".join(filter(None, (note, wider)))
        self.steps.append(Step(name, tool, parity, duration, note, module))
        if not parity.passed:
            raise ConversionError(_parity_failure(name, parity, module, tuple(self.steps)))

    def _compare(
        self, name: str, run: Callable[[], Sequence[Array]], precision: str, reference: Sequence[Array]
    ) -> Parity:
        steps = tuple(self.steps)
        try:
            outputs = run()
        except Exception as error:  # a runtime refuses or fails on what the step made, in its own types
            raise ConversionError(failure_of(error, name, steps=steps)) from error
        try:
            parity = compare(
                reference,
                outputs,
                TOLERANCES[precision],
                least_cosine=LEAST_COSINES.get(precision, NO_COSINE),
            )
        except ValueError as error:
            failure = ConversionFailure("parity_failed", name, str(error), steps=steps)
            raise ConversionError(failure) from error
        return parity if parity.passed else self._widened(parity, precision)

    def _widened(self, parity: Parity, precision: str) -> Parity:
        """Judged by the network's own rounding error, where that is more than the tolerance allows for."""
        if self._rounding is None:
            self._rounding = self.source.rounding()
        return replace(parity, tolerance=widened(parity.tolerance, self._rounding, precision))


def _first_module(diverged: Callable[[], str]) -> tuple[str, str]:
    """The first module that differs, or why it was not found: the failure must not be lost for that."""
    try:
        return diverged(), ""
    except Exception as error:  # running every module's output may fail where running the whole did not
        return "", f"first differing module not found: {type(error).__name__}: {error}"


def _parity_failure(name: str, parity: Parity, module: str, steps: tuple[Step, ...]) -> ConversionFailure:
    where = f", first in {module}" if module else ""
    if parity.max_relative <= parity.tolerance:
        where += f"; their cosine is {parity.cosine:.3f} (at least {parity.least_cosine:g})"
    return ConversionFailure(
        "parity_failed",
        name,
        f"the {name} model's outputs differ from the eager model's by {parity.max_relative:.2e} of the "
        f"largest (tolerance {parity.tolerance:.0e}){where}",
        module=module,
        advice="The model as converted computes something else; look at that module's forward pass.",
        steps=steps,
    )


def fuse(ledger: Ledger, *, left_out: Sequence[str] = ()) -> tuple[nn.Module, FusionReport]:
    """The `fused` step, and one for each form for deployment that the network has; and what was folded.

    Forms of the names in `left_out` are not taken, and the ledger says so. Raises ConversionError `bad_input`
    where the network has no such form.
    """
    source = ledger.source
    ledger.begin("fused")
    with captured():
        try:
            net, report = reparameterize_with_report(source.net, source.example)
        except Exception as error:  # modules reparameterize themselves by code of their own
            raise ConversionError(failure_of(error, "fused", net=source.net)) from error

    def diverged() -> str:
        first = source.inputs[0]
        return first_divergence(
            module_outputs(source.net, first), module_outputs(net, first), TOLERANCES["fp32"]
        )

    ledger.end(
        "fused",
        "reparameterize",
        lambda: run_eager(net, source.inputs),
        note=_note(report),
        diverged=diverged,
    )
    net = _in_forms(ledger, net, left_out)
    with captured():
        ledger.counts = count(net, (1, *source.example.shape[1:]))
    return net, report


def _in_forms(ledger: Ledger, net: nn.Module, left_out: Sequence[str]) -> nn.Module:
    """`net` in every form for deployment that it has, each checked and entered as a step of its name."""
    published = net
    for form in (form for form in FORMS if has(published, form) or form.name in left_out):
        if form.name in left_out:
            _leave_out(ledger, published, form)
        else:
            net = _in_form(ledger, net, form)
    return net


def _leave_out(ledger: Ledger, net: nn.Module, form: Form) -> None:
    """The step that says so; a network that does not change without a form is none to compare with."""
    _, replaced = formed(net, form)
    if not replaced:
        raise ConversionError(_no_such_form(net, form, tuple(ledger.steps)))
    note = "1 module stays as published" if replaced == 1 else f"{replaced} modules stay as published"
    ledger.steps.append(Step(f"left out: {form.name}", "converters.deployment_forms", None, 0, note))


def _no_such_form(net: nn.Module, form: Form, steps: tuple[Step, ...]) -> ConversionFailure:
    known = [other.name for other in FORMS if has(net, other) and formed(net, other)[1]]
    return ConversionFailure(
        "bad_input",
        form.name,
        f"there is no form '{form.name}' to leave out: this network has {' and '.join(known) or 'none'}",
        advice=f"Leave {WITHOUT_FORM} out, or ask for a network that docs/networks.md names for the form.",
        steps=steps,
    )


def _in_form(ledger: Ledger, before: nn.Module, form: Form) -> nn.Module:
    inputs = ledger.source.inputs
    ledger.begin(form.name)
    net, replaced = formed(before, form)
    if not replaced:
        return before
    ledger.replaced[form.name] = replaced

    def diverged() -> str:
        return first_divergence(
            module_outputs(before, inputs[0]), module_outputs(net, inputs[0]), TOLERANCES["fp32"]
        )

    ledger.end(
        form.name,
        "converters.deployment_forms",
        lambda: run_eager(net, inputs),
        note=f"{replaced} replaced: {form.what}",
        diverged=diverged,
    )
    return net


def _note(report: FusionReport) -> str:
    folded = ", ".join(f"{count} {kind}" for kind, count in report.folded.items()) or "nothing to fold"
    left = f"; {report.batchnorms_left} BatchNorm left" if report.batchnorms_left else ""
    because = f" ({'; '.join(report.left_because[:3])})" if left and report.left_because else ""
    return f"{folded}{left}{because}"


def assemble(
    request: ConversionRequest,
    ledger: Ledger,
    path: Path,
    *,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    op_counts: Mapping[str, int],
    batchnorms_left: int,
    folded: Mapping[str, int],
    started_ns: int,
) -> Artifact:
    """The Artifact of a written file; its tensors are written beside it."""
    source, tensors = ledger.source, path.parent / "tensors.npz"
    save_tensors(tensors, source)
    return Artifact(
        kind=request.kind,
        path=path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        key=cache_key(request),
        model=request.model,
        batch_size=request.batch_size,
        precision=request.precision,
        fused=request.fused,
        target=request.target,
        build=request.build,
        flavour=request.flavour,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        tensors=tensors,
        tensors_sha256=sha256_of(tensors),
        seed=request.input_seed,
        params_m=ledger.counts.params_m,
        gmacs=ledger.counts.gmacs,
        steps=tuple(ledger.steps),
        batchnorms_left=batchnorms_left,
        folded=dict(folded),
        op_counts=dict(op_counts),
        toolchain=toolchain(request.kind, request.model),
        conversion_ns=time.perf_counter_ns() - started_ns,
        facts={replaced_fact(name): number for name, number in ledger.replaced.items()},
        modules=module_kinds(source.net),
    )


def save_tensors(path: Path, source: Source) -> None:
    """`input_k` and `reference_k` for every k, and those of the judged ones. Uncompressed: random values do
    not compress.
    """
    arrays: dict[str, Any] = {f"input_{k}": value for k, value in enumerate(source.inputs)}
    arrays |= {f"reference_{k}": value for k, value in enumerate(source.reference)}
    for k, (given, expected) in enumerate(source.judged):
        arrays |= {f"judged_input_{k}": given, f"judged_reference_{k}": expected}
    np.savez(path, **arrays)
