"""Synthetic cases with and without forms for deployment, at given times."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from converters.artifact import Parity, Step
from models.spec import Case, ModelSpec, replaced_fact, sorted_options
from reports.records import CaseResult, StoredRun
from runners.measurement import Failure

# (network, form, ms with it, ms without it, modules, operators of either file)
SUITE = (
    ("timm/swin_tiny_patch4_window7_224", "constant biases", 61.0, 61.02, 12, (812, 812)),
    ("timm/efficientformer_l1", "constant biases", 17.0, 17.6, 1, (240, 244)),
    ("timm/efficientformer_l1", "one classifier", 17.0, 17.01, 1, (240, 243)),
    ("timm/swin_tiny_patch4_window7_224", "five axes", 61.0, 59.2, 12, (812, 790)),
    ("efficientmod_xxs", "channels first", 11.0, 13.5, 1, (301, 388)),
)


def result_of(
    sample: ModuleType, name: str, *, ms: float, left_out: str = "", forms: dict[str, int] | None = None,
    operators: int = 100, **options: object,
) -> CaseResult:  # fmt: skip
    """A measured case; `forms` are the modules that each form replaced."""
    build = sorted_options({"without_form": left_out.replace(" ", "-")} if left_out else {})
    case = Case(ModelSpec.of(name), "onnxruntime", build=build)
    seed = int(case.id[:6], 16)
    made = sample.measured(
        case, 4.0, 28.0, 4.0 * 1e3 / ms, **{"seed": seed, "between": 0.001, "count": 12, **options}
    )
    steps = [made.artifact.steps[0]]
    steps += [
        Step(
            form, "converters.deployment_forms", Parity(1e-6, 2.5e-7, 1.0, 1.0, 1e-4), 1, f"{count} replaced"
        )
        for form, count in (forms or {}).items()
    ]
    steps += [Step(f"left out: {left_out}", "converters.deployment_forms", None, 0)] if left_out else []
    artifact = replace(
        made.artifact,
        build=build,
        steps=(*steps, *made.artifact.steps[1:]),
        facts={replaced_fact(form): count for form, count in (forms or {}).items()},
        op_counts={"Conv": 20, "Reshape": operators - 20},
    )
    return replace(made, artifact=artifact)


def failed_of(name: str, left_out: str) -> CaseResult:
    case = Case(ModelSpec.of(name), "onnxruntime", build=(("without_form", left_out.replace(" ", "-")),))
    failure = Failure("conversion", "Core ML only supports tensors with rank <= 5", "", round_index=0)
    return CaseResult(case, None, (), failure, 1)


def forms_run(sample: ModuleType) -> StoredRun:
    """Every line of SUITE, with and without; one network without a form failed."""
    results = {}
    for name, form, ms, _, count, (operators, _) in SUITE:
        forms = {f: c for n, f, _, _, c, _ in SUITE if n == name}
        results[name] = result_of(sample, name, ms=ms, forms={**forms, form: count}, operators=operators)
    without = [
        result_of(sample, name, ms=ms, left_out=form, operators=operators)
        for name, form, _, ms, _, (_, operators) in SUITE
    ]
    twins = "timm/twins_svt_small"
    others = [result_of(sample, twins, ms=50.0, forms={"five axes": 9}), failed_of(twins, "five axes")]
    return sample.run_of([*results.values(), *without, *others], suite="forms")
