"""The machine's own peaks, measured in the run, and what each case reaches of them (Williams et al., 2009).

The most that a runtime computes and moves here, `peak/gemm` and `peak/copy`, are cases like any others. A
case is held against those of its runtime, precision, threads and device. Operations are two for each
multiply-accumulate. The bytes that a case must move at least are its weights once, its input and its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from reports import formatting as fmt
from reports.flags import doubts
from reports.grids import Cell, Grid, Line, number
from reports.sections import Section
from reports.tables import Row, RunTable, settings

GEMM, COPY = "peak/gemm", "peak/copy"
WEIGHT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
TENSOR_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8}
_NOTES = (
    "Operations are two for each multiply–accumulate. A case's least bytes are its weights once, in its"
    " precision, and its input and output in the types that the file has; what it moves between its layers"
    " comes on top, so its true intensity is lower: its place is further left. The roof is the lower of the"
    " measured peak and intensity times the measured bandwidth, of the same runtime, threads and device.",
    "Bandwidth is that of a copy, read and written bytes alike, whose inputs take turns; where the last cache"
    " holds them all, it is that cache's. Above 100 %, a case computes less than its multiply–accumulates"
    " say, or met a quieter moment than the peak.",
)
_SETTING = ("backend", "device", "threads", "runtime options")  # with the precision, what a peak holds for


@dataclass(frozen=True)
class Roof:
    """One runtime's peaks in one precision: operations and bytes per second, each with its row.

    `bytes_per_s` is None where the run has no copy of that runtime and thread count.
    """

    setting: str
    precision: str
    gemm: Row
    ops_per_s: float
    copy: Row | None
    bytes_per_s: float | None

    def attainable(self, intensity: float) -> float:
        """Operations per second at so many operations per byte: the lower of the two roofs."""
        if self.bytes_per_s is None:
            return self.ops_per_s
        return min(self.ops_per_s, intensity * self.bytes_per_s)


@dataclass(frozen=True)
class Point:
    """A case under its roof. `intensity` is in operations per byte, at most: more is moved than the least."""

    row: Row
    title: str
    roof: Roof
    ops_per_s: float
    intensity: float

    @property
    def of_peak(self) -> float:
        return self.ops_per_s / self.roof.ops_per_s

    @property
    def of_roof(self) -> float:
        return self.ops_per_s / self.roof.attainable(self.intensity)


def roofs(table: RunTable) -> dict[tuple[str, str], Roof]:
    """By setting (`onnxruntime, 1 thread`) and precision: the fastest product that the run measured there.

    A number in doubt is taken only where there is no other.
    """
    copies: dict[str, Row] = {}
    for row in _best_last(table, COPY, _bytes_per_s):
        copies[_setting(row)] = row
    found: dict[tuple[str, str], Roof] = {}
    for row in _best_last(table, GEMM, _ops_per_s):
        key = (_setting(row), row.case.precision)
        copy = copies.get(key[0])
        found[key] = Roof(*key, row, _ops_per_s(row), copy, _bytes_per_s(copy) if copy else None)
    planned = list(dict.fromkeys(_setting(row) for row in table.rows))
    return dict(sorted(found.items(), key=lambda it: (planned.index(it[0][0]), it[1].ops_per_s)))


def points(table: RunTable, found: Mapping[tuple[str, str], Roof]) -> list[Point]:
    """Every other case that has a roof and whose operations are counted."""
    under = []
    for facet in table.facets:
        for row in facet.rows:
            roof = found.get((_setting(row), row.case.precision))
            moved = least_bytes(row)
            if roof and row.gmacs and moved and row.case.model.name not in (GEMM, COPY):
                under.append(Point(row, facet.title, roof, _ops_per_s(row), 2e9 * row.gmacs / moved))
    return under


def least_bytes(row: Row) -> float | None:
    """Weights once in their precision, input and output as the file has them; None where that is unknown."""
    artifact, size = row.result.artifact, WEIGHT_BYTES.get(row.case.precision)
    if artifact is None or size is None:
        return None
    tensors = (*artifact.inputs, *artifact.outputs)
    batch = row.case.batch_size
    if any(one.dtype not in TENSOR_BYTES for one in tensors):
        return None
    moved = sum(
        prod(batch if side == -1 else side for side in one.shape) * TENSOR_BYTES[one.dtype] for one in tensors
    )
    return artifact.params_m * 1e6 * size + moved


def section(table: RunTable) -> Section | None:
    """The peaks, each case's share of them, and both as a figure; None where the run measured no peak."""
    found = roofs(table)
    if not found:
        return None
    under = points(table, found)
    from reports import roofline_figure

    return Section(
        "roofline",
        "Roofline",
        "The machine's own peak",
        tuple(sentences(found, under)),
        tuple(roofline_figure.panels(found.values(), under)),
        (peaks_grid(found.values()), *((cases_grid(under),) if under else ())),
        _NOTES,
    )


def headline(table: RunTable) -> str:
    """What the cases reach of the peak; empty where the run measured no peak, or peaks alone."""
    every = points(table, roofs(table))
    under = [point for point in every if not point.row.serious] or every
    if not under:
        return ""
    most, least = (choose(under, key=lambda point: point.of_peak) for choose in (max, min))
    reached = f"{most.row.label} reaches {fmt.percent(most.of_peak)} of the machine's own peak"
    if most is least:
        return f"{reached} ({most.title})."
    return (
        f"{reached} ({most.title}), the most of {len(under)} cases; {least.row.label}"
        f" {fmt.percent(least.of_peak)} ({least.title}), the least."
    )


def sentences(found: Mapping[tuple[str, str], Roof], under: Sequence[Point]) -> list[str]:
    """What the machine can do in each setting, and who comes nearest to it."""
    lines = []
    for setting in dict.fromkeys(setting for setting, _ in found):
        of = [roof for roof in found.values() if roof.setting == setting]
        peaks = fmt.listing([f"{fmt.significant(r.ops_per_s / 1e9, 3)} Gop/s in {r.precision}" for r in of])
        copied = (
            f", and moves {fmt.significant(of[0].bytes_per_s / 1e9, 3)} GB/s" if of[0].bytes_per_s else ""
        )
        base = next((roof for roof in of if roof.precision == "fp32"), None)
        gains = [
            f"{r.precision} {fmt.ratio(r.ops_per_s / base.ops_per_s)}" for r in of if base and r is not base
        ]
        gain = f" Against fp32 that is {fmt.listing(gains)}." if gains else ""
        lines.append(f"{setting} computes {peaks} in the fastest matrix product measured{copied}.{gain}")
    return [*lines, *_doubts(found.values(), under)]


def _doubts(found: Iterable[Roof], under: Sequence[Point]) -> list[str]:
    """What the shares rest on, where that is in doubt."""
    peaks = {row.case.id: row for roof in found for row in (roof.gemm, roof.copy) if row}
    rows = [*peaks.values(), *(point.row for point in under)]
    doubtful = [row for row in rows if row.serious]
    words = doubts(flag for row in doubtful for flag in row.flags)
    bad_peaks = sum(row.case.id in peaks for row in doubtful)
    if not doubtful:
        return []
    return [
        f"{len(doubtful)} of these {len(rows)} numbers, {fmt.count(bad_peaks, 'peak')} among them, carry a"
        f" flag that puts them in doubt ({words})."
    ]


def peaks_grid(found: Iterable[Roof]) -> Grid:
    """A line per runtime and precision."""
    heads = (
        ("Runtime", False, ""),
        ("Precision", False, ""),
        ("Peak, Gop/s", True, "two operations for each multiply–accumulate of the matrix products"),
        ("±", True, "of its median latency"),
        ("Bandwidth, GB/s", True, "bytes read and written by the copy, which is in fp32"),
        ("±", True, "of its median latency"),
        ("Ridge, op/byte", True, "from this intensity on, arithmetic is the lower roof"),
    )
    return Grid("Measured peaks", heads, tuple(map(_peak_line, found)))


def cases_grid(under: Sequence[Point]) -> Grid:
    """A line per case, the nearest to its peak first."""
    heads = (
        ("Case", False, ""),
        ("Gop/s", True, "2 × GMACs over the median latency"),
        ("Of the peak", True, "of the arithmetic peak of its runtime and precision"),
        ("Op/byte, at most", True, "operations over the least bytes"),
        ("Of the roof", True, "of the lower of both roofs at that intensity"),
        ("Lower roof", False, ""),
        ("Group", False, ""),
    )
    ordered = sorted(under, key=lambda point: -point.of_peak)
    return Grid("Share of the peak", heads, tuple(_point_line(point) for point in ordered))


def _peak_line(roof: Roof) -> Line:
    bytes_per_s = roof.bytes_per_s
    return Line(
        (
            Cell(roof.setting, css="name"),
            Cell(roof.precision),
            Cell(fmt.significant(roof.ops_per_s / 1e9, 4), roof.ops_per_s),
            Cell(fmt.plus_minus(roof.gemm.summary.half_width)),
            number(bytes_per_s, lambda value: fmt.significant(value / 1e9, 3)),
            Cell(fmt.plus_minus(roof.copy.summary.half_width) if roof.copy else fmt.MISSING),
            number(roof.ops_per_s / bytes_per_s if bytes_per_s else None, lambda v: fmt.significant(v, 3)),
        )
    )


def _point_line(point: Point) -> Line:
    memory = point.roof.attainable(point.intensity) < point.roof.ops_per_s
    return Line(
        (
            Cell(point.row.label, css="name", title=point.row.case.label),
            Cell(fmt.significant(point.ops_per_s / 1e9, 3), point.ops_per_s),
            Cell(fmt.percent(point.of_peak), point.of_peak),
            Cell(fmt.significant(point.intensity, 3), point.intensity),
            Cell(fmt.percent(point.of_roof), point.of_roof),
            Cell("memory" if memory else "arithmetic"),
            Cell(point.title),
        )
    )


def _best_last(table: RunTable, name: str, rate: Callable[[Row], float]) -> list[Row]:
    """The rows of a peak that have a rate, in rising order; those in doubt come first."""
    rows = [row for row in table.rows if row.case.model.name == name and rate(row)]
    return sorted(rows, key=lambda row: (not row.serious, rate(row)))


def _setting(row: Row) -> str:
    """`onnxruntime, 1 thread`: the device goes without saying where it is the CPU."""
    words = settings(row.case)
    shown = [words[name] for name in _SETTING if words[name] and words[name] != "cpu"]
    return ", ".join(shown)


def _ops_per_s(row: Row) -> float:
    return 2e9 * (row.gmacs_per_s or 0.0)


def _bytes_per_s(row: Row) -> float:
    return (least_bytes(row) or 0.0) / (row.summary.median_ns * 1e-9)
