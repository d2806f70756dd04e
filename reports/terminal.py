"""Results as a table for any window width, with failures and the meaning of every flag below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reports import agreement, layers, parts
from reports import formatting as fmt
from reports.failure_groups import FailureGroup, grouped
from reports.findings import batches_note
from reports.flags import is_simulated
from reports.focus import sentence
from reports.headline import headline
from reports.matched import print_matched
from reports.matched_run import matched_of, title_of
from reports.progress import Progress
from reports.records import PublishedFigure, StoredRun
from reports.short_labels import shortened
from reports.tables import Row, RunTable, build
from reports.terminal_devices import print_devices
from reports.terminal_evaluated import print_evaluated
from reports.terminal_savings import print_savings
from reports.terminal_scaling import print_scaling
from reports.terminal_untimed import print_untimed

__all__ = ["Progress", "print_table"]

Unit = tuple[float, str]
_GAP = 2
_INDENT = 2
_MIN_NAME = 20
_NARROW = 80
_WIDE = 120


@dataclass(frozen=True)
class _Column:
    """`need` 0 is always shown; where the window is too narrow for all, those with the largest `need` go."""

    header: str
    cell: Callable[[Row, Unit], Text]
    need: int
    right: bool = True


def print_table(
    stored_run: StoredRun,
    console: Console,
    *,
    published: Sequence[PublishedFigure] | None = None,
    unread: Sequence[str] = (),
) -> None:
    """Print a run: its finding, one table with a section per comparable group, failures, and a legend.

    `published` are others' latencies, shown beside what is built and not timed; `unread` are rows of others'
    figures that cannot be true.
    """
    table = build(stored_run)
    simulated = sum(is_simulated(row.result) for row in table.rows)
    if simulated:
        which = f"{simulated} of {fmt.count(len(table.rows), 'result')}"
        console.print(Text(f" SIMULATED: {which} come from no device ", style="bold white on red"))
    console.print(Text(headline(table), style="bold"))
    if against := sentence(table):
        console.print(Text(against))
    console.print(_subtitle(table), style="dim")
    if table.rows:
        console.print()
        _print_results(table, console)
    print_scaling(table, console)
    print_savings(table, console)
    print_devices(table, console)
    _print_layers(table, console)
    print_untimed(table, console, published)
    if matched := matched_of(stored_run):
        console.print()
        print_matched(matched, title_of(stored_run), console)
    print_evaluated(stored_run.evaluations, stored_run.results, console)
    _print_failures(table, console)
    _print_unread(unread, console)
    _print_pending(table, console)
    _print_legend(table, console)


def _subtitle(table: RunTable) -> Text:
    info = table.info
    parts = [
        f"suite {fmt.printable(info.suite)}",
        f"run {info.run_id}",
        fmt.moment(info.started_at_ns),
        *table.common,
    ]
    if info.finished_at_ns is None:
        parts.append("not finished")
    return Text(", ".join(parts))


def _print_results(table: RunTable, console: Console) -> None:
    """One grid per group, all with the same column widths, so that they read as one table."""
    if table.info.is_batched:
        console.print(Text(batches_note(), style="dim"))
        console.print()
    columns = _that_fit(table, console.width)
    widths = [_column_width(column, table, console.width) for column in columns]
    widths[0] = min(_widest_name(table), widths[0] + console.width - _total(widths))
    console.print(_grid(columns, widths, [Text(column.header, style="bold") for column in columns]))
    for facet in table.facets:
        console.print(Text(facet.title, style="bold cyan"))
        names = shortened([row.label for row in facet.rows], widths[0] - _INDENT)
        for row, name in zip(facet.rows, names, strict=True):
            cells = [_indented(name), *(column.cell(row, table.unit) for column in columns[1:])]
            console.print(_grid(columns, widths, cells))


def _grid(columns: Sequence[_Column], widths: Sequence[int], cells: Sequence[Text]) -> Text:
    """One line: every cell cut or padded to its column."""
    line = Text(no_wrap=True)
    for column, width, cell in zip(columns, widths, cells, strict=True):
        cell.truncate(width, overflow="ellipsis")
        cell.align("right" if column.right else "left", width)
        line.append_text(cell).append(" " * _GAP)
    line.rstrip()
    return line


def _that_fit(table: RunTable, width: int) -> list[_Column]:
    """As many columns as the window holds, the most important ones first, in reading order."""
    columns = _columns(table, width)
    chosen = [column for column in columns if column.need == 0]
    for column in sorted(columns, key=lambda column: column.need):
        trial = [*chosen, column]
        if column.need and _total([_column_width(c, table, width) for c in trial]) <= width:
            chosen = trial
    return [column for column in columns if column in chosen]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _column_width(column: _Column, table: RunTable, width: int) -> int:
    if column.header == "case":
        return min(_widest_name(table), max(_MIN_NAME, width // 4))
    return max(cell_len(column.header), *(cell_len(column.cell(r, table.unit).plain) for r in table.rows))


def _widest_name(table: RunTable) -> int:
    return max(cell_len(row.label) for row in table.rows) + _INDENT


def _columns(table: RunTable, width: int) -> list[_Column]:
    """Every column that has something to say; flags and ratios are abbreviated in a narrow window."""
    spans = parts.present(table)
    columns = [
        _Column("case", lambda row, _: _indented(row.label), 0, right=False),
        _Column("rank", lambda row, _: Text(str(row.rank) if row.rank else fmt.MISSING), 2),
        _Column(f"median, {table.unit[1]}", _latency, 0),
        *(_Column(parts.title(name), _part(name), 9 + place) for place, name in enumerate(spans)),
        _Column("p90", _p90, 6),
        _Column("vs best", _versus if width >= _NARROW else _versus_briefly, 3),
        _Column("GMACs", lambda row, _: Text(fmt.gmacs(row.gmacs) if row.gmacs else fmt.MISSING), 4),
        _Column("params", lambda row, _: Text(fmt.params(row.params_m) if row.params_m else fmt.MISSING), 5),
        _Column("GMAC/s", lambda row, _: Text(fmt.gmacs(row.gmacs_per_s) if row.gmacs_per_s else "–"), 8),
        _Column("parity", _parity, 7, right=False),
        _Column("flags", _names if width >= _WIDE else _symbols, 1, right=False),
    ]
    unused = set() if table.flags else {"flags"}
    if not any(row.summary.p90 for row in table.rows):
        unused.add("p90")
    if all(len(facet.rows) == 1 for facet in table.facets):
        unused |= {"rank", "vs best"}
    return [column for column in columns if column.header not in unused]


def _indented(name: str) -> Text:
    return Text(" " * _INDENT + name)


def _latency(row: Row, unit: Unit) -> Text:
    """Value and interval; a number in doubt is dimmed, never hidden."""
    s = row.summary
    value = fmt.duration(s.median_ns, half_width=s.half_width, unit=unit).removesuffix(f" {unit[1]}")
    return Text(f"{value} {fmt.plus_minus(s.half_width):>8}", style="dim" if row.serious else "")


def _part(name: str) -> Callable[[Row, Unit], Text]:
    """A span of the same samples beside the median, in its unit."""

    def cell(row: Row, unit: Unit) -> Text:
        found = parts.median_ns(row, name)
        return Text(fmt.MISSING if found is None else fmt.significant(found / unit[0], 3))

    return cell


def _p90(row: Row, unit: Unit) -> Text:
    quantile = row.summary.p90
    return Text(fmt.significant(quantile.value_ns / unit[0], 4) if quantile else fmt.MISSING)


def _versus(row: Row, _: Unit) -> Text:
    ratio = row.versus_best
    return Text(fmt.ratio_interval(ratio.value, ratio.low, ratio.high) if ratio else fmt.MISSING)


def _versus_briefly(row: Row, _: Unit) -> Text:
    return Text(fmt.ratio(row.versus_best.value) if row.versus_best else fmt.MISSING)


def _parity(row: Row, _: Unit) -> Text:
    found = agreement.checked(row.result)
    if found is None:
        return Text(fmt.MISSING)
    passed, error = found
    return Text(f"{'ok' if passed else 'FAIL'} {fmt.error(error)}", style="" if passed else "red")


def _names(row: Row, _: Unit) -> Text:
    return Text(", ".join(flag.label for flag in row.flags), style="yellow")


def _symbols(row: Row, _: Unit) -> Text:
    return Text(" ".join(flag.symbol for flag in row.flags), style="yellow")


def _print_layers(table: RunTable, console: Console) -> None:
    """One line for every case whose runtime took a profile by layer."""
    found = layers.profiles(table)
    if found:
        console.print()
        console.print(Text("Where the time goes", style="bold"))
    for _, profile in found:
        text = Text.assemble((f"{profile.label}: ", "bold"), layers.sentence(profile))
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _print_failures(table: RunTable, console: Console) -> None:
    if not table.failures:
        return
    console.print()
    console.print(
        Text(f"Failed: {len(table.failures)} of {fmt.count(table.planned, 'case')}", style="bold red")
    )
    for group in grouped(table.failures):
        console.print(Text(f"  {_failed_what(group)}"))
        for line in (group.cause if group.is_single else group.names, group.advice):
            if line:
                console.print(Padding(Text(fmt.harmless(line), style="dim"), (0, 0, 0, 4), expand=False))


def _print_unread(unread: Sequence[str], console: Console) -> None:
    if unread:
        console.print()
        console.print(Text("Left out, as others' figures that cannot be true:", style="bold red"))
    for text in unread:
        console.print(Padding(Text(fmt.harmless(text)), (0, 0, 0, 2), expand=False))


def _failed_what(group: FailureGroup) -> str:
    """A case and how it failed; of several with one cause, how many and the cause."""
    if not group.is_single:
        return fmt.printable(group.title)
    (result,) = group.results
    built = " (built, not timed)" if result.failure and result.failure.built and not result.rounds else ""
    return f"{fmt.printable(result.case.label)}: {group.kind}{built}"


def _print_pending(table: RunTable, console: Console) -> None:
    if table.pending:
        names = fmt.listing(sorted({table.labels[result.case.id] for result in table.pending}))
        console.print()
        console.print(Text(f"Not measured yet: {fmt.count(len(table.pending), 'case')} ({names})"))


def _print_legend(table: RunTable, console: Console) -> None:
    if not table.flags:
        return
    console.print()
    console.print(Text("Flags", style="bold"))
    for flag in table.flags:
        text = Text.assemble((f"{flag.symbol}  {flag.label}: ", "yellow"), f"{flag.meaning} {flag.advice}")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
