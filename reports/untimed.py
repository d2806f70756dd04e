"""Cases that are built and not timed: what the toolchain tells about their files, and what others published.

Nothing here is a latency of this project's: a published one carries its device, its setup and its source.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.spec import Case
from reports import formatting as fmt
from reports.grids import Cell, Grid, Line
from reports.records import CaseResult, PublishedFigure, PublishedLatency, by_network
from reports.tables import RunTable, settings

# The runtime that a published latency was taken on, by the backend whose rows it stands beside.
_RUNTIMES = {"trt": "TensorRT", "coreml": "Core ML"}
_MARKS = f"*†‡§¶#{string.ascii_lowercase}"


@dataclass(frozen=True)
class UntimedRow:
    """One built file: `label` is short, `place` what sets it apart from others of the run.

    Sizes are in bytes and the build time in nanoseconds; None is what the toolchain does not tell.
    """

    result: CaseResult
    label: str
    place: str
    size_bytes: int | None
    build_ns: int | None
    layers: int | None
    weights_bytes: int | None
    activation_bytes: int | None
    published: PublishedLatency | None

    @property
    def published_text(self) -> str:
        """`7.7 ms`; `≈ 19.1 ms` where it was read off a plot."""
        one = self.published
        return f"{'≈ ' if one.error else ''}{fmt.published(one.ms)}" if one else fmt.MISSING


def rows(table: RunTable, published: Sequence[PublishedFigure] | None) -> list[UntimedRow]:
    """In plan order. Of several setups that a network was published for, the one that most of them share."""
    figures = by_network(published or ())
    told = [_published_of(result.case, figures) for result in table.untimed]
    shared = Counter(one.setup for latencies in told for one in latencies)
    chosen = [max(latencies, key=lambda one: shared[one.setup], default=None) for latencies in told]
    both = zip(table.untimed, chosen, strict=True)
    return [_row(result, table, latency) for result, latency in both]


def _published_of(case: Case, figures: Mapping[tuple[str, int], PublishedFigure]) -> list[PublishedLatency]:
    """Of the runtime that the case is built for."""
    figure = figures.get((case.model.name, case.model.resolution))
    runtime = _RUNTIMES.get(case.backend)
    return [one for one in figure.latencies if one.runtime == runtime] if figure else []


def summary(table: RunTable) -> str:
    """`18 of 18 cases are built and not timed: no NVIDIA GPU on this machine.`; empty without any."""
    found = table.untimed
    if not found:
        return ""
    verb = "is" if len(found) == 1 else "are"
    where = f"{len(found)} of {fmt.count(table.planned, 'case')} {verb} built and not timed"
    return f"{where}: {fmt.listing(reasons(table))}."


def reasons(table: RunTable) -> list[str]:
    """Why, each reason once."""
    return list(dict.fromkeys(r.failure.message for r in table.untimed if r.failure))


def advice(table: RunTable) -> list[str]:
    """What to do, each sentence once."""
    return list(dict.fromkeys(r.failure.advice for r in table.untimed if r.failure and r.failure.advice))


def advice_parts(text: str) -> list[tuple[str, bool]]:
    """Words and commands in turn, each with whether it is a command: what is between backticks is copied."""
    parts = [(part, bool(place % 2)) for place, part in enumerate(text.split("`"))]
    if len(parts) == 1:
        return parts
    told = [(part if is_command else part.strip(" ;.:"), is_command) for part, is_command in parts]
    return [(part if is_command else f"{part}:", is_command) for part, is_command in told if part]


def sources(found: Sequence[UntimedRow]) -> dict[str, str]:
    """Where the published latencies come from: device, setup and source, each once, with its mark.

    Beyond the marks that there are, a source has none.
    """
    told = dict.fromkeys(describe(row.published) for row in found if row.published)
    return {text: _MARKS[place : place + 1] for place, text in enumerate(told)}


def marked(row: UntimedRow, marks: Mapping[str, str]) -> str:
    """`≈ 19.1 ms †`, with the mark of its source in `sources`."""
    mark = marks.get(describe(row.published), "") if row.published else ""
    return f"{row.published_text} {mark}".rstrip()


def describe(one: PublishedLatency) -> str:
    """`NVIDIA T4, TensorRT 8.0.3, fp16, batch 8 (Next-ViT's README); read off a plot, ±0.1 ms`."""
    read = f"; read off a plot, {one.error}" if one.error else ""
    return f"{one.setup} ({one.source}){read}"


def grid(found: Sequence[UntimedRow]) -> Grid | None:
    """The table of the page; columns that no row fills are left out."""
    if not found:
        return None
    marks = sources(found)
    columns = [
        (("Case", False, ""), [Cell(r.label, css="name", title=r.result.case.label) for r in found]),
        (("Setting", False, ""), [Cell(r.place or fmt.MISSING) for r in found]),
        (("File", True, "size of the built file"), [_size(r.size_bytes) for r in found]),
        (("Build time", True, "of the last stage"), [_duration(r.build_ns) for r in found]),
        (("Layers", True, "of the parsed network"), [_count(r.layers) for r in found]),
        (("Weights", True, "memory on the device"), [_size(r.weights_bytes) for r in found]),
        (("Activations", True, "memory on the device"), [_size(r.activation_bytes) for r in found]),
        (("Published elsewhere", False, "not measured here"), [_published(r, marks) for r in found]),
    ]
    kept = [column for column in columns if any(cell.text != fmt.MISSING for cell in column[1])]
    lines = tuple(Line(cells) for cells in zip(*(cells for _, cells in kept), strict=True))
    return Grid("What the builder tells of each file", tuple(head for head, _ in kept), lines)


def _row(result: CaseResult, table: RunTable, published: PublishedLatency | None) -> UntimedRow:
    artifact, case = result.artifact, result.case
    told = artifact.facts if artifact else {}
    words = settings(case)
    build_ns = _number(told.get("build_ns")) or (artifact.conversion_ns if artifact else None)
    return UntimedRow(
        result,
        table.labels[case.id],
        ", ".join(words[name] for name in table.varying if words[name] and words[name] != "fused"),
        artifact.size_bytes if artifact else None,
        build_ns,
        _number(told.get("layers")),
        _number(told.get("weights_bytes")),
        _number(told.get("activation_bytes")),
        published,
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _size(value: int | None) -> Cell:
    return Cell(fmt.size(value), value) if value is not None else Cell(fmt.MISSING)


def _duration(value: int | None) -> Cell:
    return Cell(fmt.duration(value), value) if value is not None else Cell(fmt.MISSING)


def _count(value: int | None) -> Cell:
    return Cell(str(value), value) if value is not None else Cell(fmt.MISSING)


def _published(row: UntimedRow, marks: Mapping[str, str]) -> Cell:
    one = row.published
    return Cell(marked(row, marks), one.ms, "foreign", describe(one)) if one else Cell(fmt.MISSING)
