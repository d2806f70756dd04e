"""The report's section on evaluated files: accuracies measured here, with the images that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports import accuracy
from reports import formatting as fmt
from reports.evaluations import Evaluation, Share
from reports.grids import Cell, Grid, Line
from reports.measured_accuracy import groups, is_of, newest, titled
from reports.records import CaseResult, PublishedFigure, StoredRun, by_network
from reports.sections import Section
from reports.tables import RunTable

if TYPE_CHECKING:
    from reports.drawing import Drawing

MAX_PANELS = 8
MAX_CLASSES = 12  # of a table by class; the worst are shown
MAX_COLUMNS = 6
ANCHOR = "evaluated"


def page(run: StoredRun, table: RunTable, published: Sequence[PublishedFigure]) -> dict[str, Any]:
    """For the template: the section, where something was evaluated, and the images of each accuracy axis."""
    found = newest(run.evaluations)
    shown = list(dict.fromkeys(one.data for one in groups(table, found, by_network(published))))
    return {"evaluated": [section(run, table, published)] if found else [], "measured_data": shown}


def section(run: StoredRun, table: RunTable, published: Sequence[PublishedFigure]) -> Section:
    """What was evaluated of the run's models, whatever case it belongs to."""
    found = newest(run.evaluations)
    return Section(
        ANCHOR,
        "Evaluated",
        "Evaluated artifacts",
        paragraphs=(
            "Accuracies that were measured here, on labelled images, of the file itself and not only of its"
            " PyTorch form. Intervals are Wilson's at 95 %. Agreement is the share of images for which the"
            " file and its eager fp32 form predict the same class.",
        ),
        drawings=tuple(_panels(table, found, published)),
        grids=(_grid(found, run.results), *_by_class(found)),
        notes=tuple(_notes(found, run.results)),
    )


def _panels(
    table: RunTable, found: Sequence[Evaluation], published: Sequence[PublishedFigure]
) -> list[Drawing]:
    """One figure for each group and set of images: accuracies of different images share no axis."""
    from reports import accuracy_plots

    some = groups(table, found, by_network(published))
    styles = accuracy.styles([network for one in some for network in one.networks], ())
    return [
        accuracy_plots.measured_panel(
            one.facet, one.networks, table.unit, styles, f"evaluated-{place}", data=one.data
        )
        for place, one in enumerate(some[:MAX_PANELS])
    ]


def _grid(found: Sequence[Evaluation], results: Sequence[CaseResult]) -> Grid:
    heads = (
        ("Evaluated", False, "the network and the file"),
        ("Precision", False, ""),
        ("Top-1, %", True, "with its 95 % interval"),
        ("Top-5, %", True, "with its 95 % interval"),
        ("Agreement, %", True, "images with the same prediction as the eager fp32 model"),
        ("Lost / gained", True, "images right in one of the two alone, against eager"),
        ("Images", True, ""),
        ("Skipped", True, "images that could not be read"),
        ("Data", False, ""),
        ("Cases of this run", False, "that run the same file, or the same network with the same weights"),
    )
    titles = titled(found)
    lines = tuple(_line(one, titles[one.images.identity], results) for one in found)
    return Grid("Evaluated artifacts", heads, lines)


def _line(one: Evaluation, data: str, results: Sequence[CaseResult]) -> Line:
    cases = [result.case.label for result in results if is_of(one, result)]
    file = one.file
    name = f"{_network(one)} {file.model.shape_label}" if file.model else file.name
    changed = f"{one.lost} / {one.gained}" if one.agreement else fmt.MISSING
    return Line(
        (
            Cell(f"{name} ({file.kind})", css="name", title=f"{file.name}, {file.sha256[:12]}, {file.tool}"),
            Cell(file.precision),
            _share(one.top1),
            _share(one.top5),
            _share(one.agreement),
            Cell(changed),
            Cell(f"{one.count:,}", one.count),
            Cell(f"{one.images.skipped:,}", one.images.skipped),
            Cell(data.partition(" (")[0], title=f"{data}; {one.images.transform}"),
            Cell(fmt.count(len(cases), "case") if cases else "none", title="; ".join(cases)),
        )
    )


def _share(share: Share | None) -> Cell:
    if share is None:
        return Cell(fmt.MISSING)
    low, high = share.interval
    text = f"{100 * share.value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
    return Cell(text, share.value, title=f"{share.hits:,} of {share.count:,}")


def _by_class(found: Sequence[Evaluation]) -> list[Grid]:
    """For each set of images, its worst classes, a column for each evaluated file."""
    sets: dict[tuple[str, str, str], list[Evaluation]] = {}
    for one in found:
        sets.setdefault(one.images.identity, []).append(one)
    titles = titled(found)
    return [_classes(some[:MAX_COLUMNS], titles[identity]) for identity, some in sets.items()]


def _classes(some: Sequence[Evaluation], data: str) -> Grid:
    """Lines by the worst accuracy of any file in that class."""
    worst = {name: min(one.per_class[name].value for one in some) for name in some[0].per_class}
    chosen = sorted(worst, key=lambda name: worst[name])[:MAX_CLASSES]
    heads = [("Class", False, ""), ("Images", True, "")]
    heads += [(_column(one), True, f"{one.file.name}: top-1, %") for one in some]
    lines = [
        Line(
            (
                Cell(name, css="name"),
                Cell(str(some[0].per_class[name].count), some[0].per_class[name].count),
                *(_share(one.per_class[name]) for one in some),
            )
        )
        for name in chosen
    ]
    which = "every class" if len(chosen) == len(worst) else f"the {len(chosen)} worst of {len(worst)} classes"
    return Grid(f"Top-1 by class, %: {data}, {which}", tuple(heads), tuple(lines))


def _column(one: Evaluation) -> str:
    return f"{_network(one)} {one.file.precision} {one.file.kind}"


def _network(one: Evaluation) -> str:
    return one.file.model.name.removeprefix("timm/") if one.file.model else one.file.name


def _notes(found: Sequence[Evaluation], results: Sequence[CaseResult]) -> list[str]:
    notes = [f"Inputs: {text}." for text in dict.fromkeys(one.images.transform for one in found)]
    eager = dict.fromkeys(one.eager_tool for one in found if one.eager_tool)
    tools = dict.fromkeys(one.file.tool for one in found)
    notes.append(
        f"Run by: {fmt.listing(list(tools))}{f'; eager: {fmt.listing(list(eager))}' if eager else ''}."
    )
    if not all(any(is_of(one, result) for result in results) for one in found):
        notes.append(
            "What belongs to no case has other weights, precision, file kind or runtime: no axis of this run"
            " has it."
        )
    broken = [f"{one.file.name} {one.not_finite}" for one in found if one.not_finite]
    if broken:
        notes.append(f"Images for which outputs were not finite, counted as wrong: {fmt.listing(broken)}.")
    return notes
