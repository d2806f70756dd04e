"""Every network of a suite as a Core ML package in fp16 and in fp32, converted and evaluated on this machine.

`python -m tests.validation.core_ml_packages` writes docs/results/coreml-SUITE.json and, from it, the table
coreml-SUITE.md. A network is converted by `bench.py convert`, as a user does it, with a cache of its own, and
its row stored as soon as it is taken: `--missing` goes on where it was ended, `--models` takes some anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from commands import options
from commands.config import load
from commands.plan import Overrides, make
from models.spec import ModelSpec
from runners import environment
from tests.validation.document import ROOT

COMMAND = "python -m tests.validation.core_ml_packages"
RESULTS = ROOT / "docs" / "results"
SCHEMA = 1
# Steps that every conversion has; the others are forms, named as in docs/networks.md, and the layout.
COMMON = ("fused", "exported", "mlpackage", "float16")

_HEAD = """# Networks of `{suite}` as Core ML packages

{made} of {all} networks have a package in fp16 and one in fp32, evaluated by [the
interpreter](../coreml.md#the-interpreter): the converted program, not Apple's kernels. Seconds, MB,
operators, transposes and reshapes are those of the fp16 package in its default layout; seconds include the
evaluation, and what else the machine did. Errors are the largest difference from the eager fp32 outputs,
relative to the largest output, of four inputs, with random weights; fp16 is rounded after every operator.
Tolerances are those that the conversion was held to: 1e-4 and 0.1, more where the network amplifies its own
rounding ([networks.md](../networks.md#what-was-verified)). Forms are told in
[networks.md](../networks.md#forms-for-deployment), the layout in [coreml.md](../coreml.md#layout).
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One network. `fp16` and `fp32` are the largest difference from the eager fp32 outputs, relative to the
    largest, of four inputs: fp16 rounded after every operator, fp32 of a package in fp32. Where a conversion
    failed, `failure` says why and the figures are None; a size that was not kept is None too. `where` is the
    date, the machine and the versions.
    """

    label: str
    where: str
    failure: str = ""
    seconds: float | None = None
    package_bytes: int | None = None
    operators: int | None = None
    transposes: int | None = None
    reshapes: int | None = None
    fp32: float | None = None
    fp32_tolerance: float | None = None
    fp16: float | None = None
    fp16_tolerance: float | None = None
    forms: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every network that was taken has both packages, 1 where one has not."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="variants", help="a suite of bench.toml")
    options.add_list(parser, "--models", "NAME", "only these")
    options.add_list(parser, "--resolutions", "SIDE", "only these")
    parser.add_argument("--missing", action="store_true", help="only those without a row or with cells left")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the two files are")
    args = parser.parse_args(argv)
    overrides = Overrides(
        models=options.values(args.models, "--models"),
        resolutions=options.values(args.resolutions, "--resolutions"),
    )
    config, file = load(ROOT / "bench.toml"), args.folder / f"coreml-{args.suite}.json"
    labels = [label_of(case.model) for case in make(config, args.suite, Overrides(), {}).cases]
    rows, failed = read(file), 0
    for case in make(config, args.suite, overrides, {}).cases:
        known = rows.get(label_of(case.model))
        if args.missing and known and known.package_bytes:
            continue
        row = taken(case.model)
        rows[row.label] = row
        store(file, labels, rows)
        print(row.failure or table([row]).splitlines()[-1], flush=True)
        failed += bool(row.failure)
    return 1 if failed else 0


def label_of(spec: ModelSpec) -> str:
    return f"{spec.name.removeprefix('timm/')} at {spec.shape_label}"


def taken(spec: ModelSpec) -> Row:
    """A network's row; its files are gone when it is made."""
    label, where = label_of(spec), place()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for precision in ("fp16", "fp32"):
            try:
                found[precision] = converted(spec, precision, Path(folder))
            except ValueError as error:
                return Row(label, where, failure=f"{precision}: {error}")
    return row_of(label, where, found["fp16"], found["fp32"])


def converted(spec: ModelSpec, precision: str, folder: Path) -> dict[str, Any]:
    """What `bench.py convert --json` says. Raises ValueError with its error."""
    (folder / "bench.toml").write_text((ROOT / "bench.toml").read_text())
    command = [sys.executable, str(ROOT / "bench.py"), "convert", spec.name, "--to", "coreml", "--json"]
    command += ["--precision", precision, "--resolution", spec.shape_label]
    command += ["-o", str(folder / precision), "--config", str(folder / "bench.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ValueError("; ".join(lines[-5:])[:500] or f"exit code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def row_of(label: str, where: str, half: Mapping[str, Any], single: Mapping[str, Any]) -> Row:
    """From the facts of the two packages, as `convert --json` prints them."""
    fp16, fp32 = _parity(half, "float16"), _parity(single, "mlpackage")
    counts = half["op_counts"]
    return Row(
        label,
        where,
        seconds=round(half["conversion_ns"] / 1e9, 1),
        package_bytes=half["size_bytes"],
        operators=half["facts"]["operators"],
        transposes=counts.get("transpose", 0),
        reshapes=counts.get("reshape", 0),
        fp32=fp32["max_relative"],
        fp32_tolerance=fp32["tolerance"],
        fp16=fp16["max_relative"],
        fp16_tolerance=fp16["tolerance"],
        forms=tuple(step["name"] for step in half["steps"] if step["name"] not in COMMON),
    )


def _parity(facts: Mapping[str, Any], name: str) -> Mapping[str, float]:
    (found,) = (step["parity"] for step in facts["steps"] if step["name"] == name)
    parity: Mapping[str, float] = found
    return parity


def place() -> str:
    """Date, machine and versions; no name or path of the machine."""
    told = environment.describe_machine()
    packages = ", ".join(f"{name} {told['packages'][name]}" for name in ("coremltools", "torch", "timm"))
    cpu = told["cpu"]
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{date}, {cpu['logical_cores']} cores of {cpu['model']}, {packages}"


def read(file: Path) -> dict[str, Row]:
    """The stored rows by label. Raises ValueError for another schema."""
    if not file.exists():
        return {}
    value = json.loads(file.read_text())
    if value["schema"] != SCHEMA:
        raise ValueError(f"{file.name} has schema {value['schema']}, this version reads {SCHEMA}")
    rows = [Row(**{**row, "forms": tuple(row["forms"])}) for row in value["rows"]]
    return {row.label: row for row in rows}


def store(file: Path, labels: Sequence[str], rows: Mapping[str, Row]) -> None:
    """Both files anew, in the order of `labels`, the suite's networks."""
    found = [rows[label] for label in labels if label in rows]
    value = {"schema": SCHEMA, "rows": [asdict(row) for row in found]}
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    suite = file.stem.removeprefix("coreml-")
    file.with_suffix(".md").write_text(document(suite, labels, found))


def document(suite: str, labels: Sequence[str], rows: Sequence[Row]) -> str:
    """The table of `rows`; the suite's `labels` that have none are named."""
    made = [row for row in rows if not row.failure]
    failed = [f"- {row.label}: {row.failure}" for row in rows if row.failure]
    places = [f"- {where}" for where in sorted({row.where for row in rows})]
    missing = [label for label in labels if label not in {row.label for row in rows}]
    left = [f"- not taken so far: {', '.join(missing)}"] if missing else []
    head = _HEAD.format(suite=suite, made=len(made), all=len(labels))
    again = f"Again: `{COMMAND} --suite {suite}`; with `--missing` only what is not here."
    return "\n".join([head, table(made), "", *failed, *left, *places, "", again, ""])


def table(rows: Sequence[Row]) -> str:
    """Of rows that did not fail."""
    lines = [
        "| network | seconds | MB | operators | transposes | reshapes | fp32 error | tolerance | fp16 error"
        " | tolerance | forms and layout |",
        f"|{'---|' * 11}",
    ]
    for row in rows:
        cells = (
            *(row.label, f"{row.seconds:.0f}", _megabytes(row.package_bytes), row.operators),
            *(row.transposes, row.reshapes, f"{row.fp32:.1e}", f"{row.fp32_tolerance:.0e}"),
            *(f"{row.fp16:.1e}", f"{row.fp16_tolerance:.2g}", ", ".join(row.forms) or "–"),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _megabytes(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 1e6:.1f}"


if __name__ == "__main__":
    sys.exit(main())
