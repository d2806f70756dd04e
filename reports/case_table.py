"""The table of all cases of a run: measured, failed and not reached, with what the page can filter by."""

from __future__ import annotations

from collections.abc import Callable

from models.spec import Case
from reports import agreement, parts
from reports import formatting as fmt
from reports.grids import Cell, Grid, Line, number, quantile
from reports.records import CaseResult
from reports.tables import Row, RunTable, settings

_Column = tuple[str, bool, str, Callable[[Row], Cell]]


def results(table: RunTable) -> Grid:
    """Every case of the plan, measured or not; columns without any value are left out."""
    columns = [*_setting_columns(table), *_number_columns(table)]
    measured = [
        Line(tuple(column[3](row) for column in columns), _keys(row.case, row.label)) for row in table.rows
    ]
    missing = [
        _unmeasured(result, table.labels[result.case.id], columns)
        for result in (*table.untimed, *table.failures, *table.pending)
        if not result.rounds
    ]
    kept = [
        i
        for i in range(len(columns))
        if any(line.cells[i].text not in ("", fmt.MISSING) for line in (*measured, *missing))
    ]
    heads = tuple(columns[i][:3] for i in kept)
    lines = tuple(
        Line(tuple(line.cells[i] for i in kept), line.keys, line.css) for line in (*measured, *missing)
    )
    return Grid("All cases of the run", heads, lines)


def filters(table: RunTable) -> list[tuple[str, list[str]]]:
    """(setting, its values) for every setting with more than one value."""
    unmeasured = (*table.untimed, *table.failures, *table.pending)
    every = [settings(case) for case in (*(r.case for r in table.rows), *(r.case for r in unmeasured))]
    return [
        (name, list(dict.fromkeys(words[name] for words in every if words[name]))) for name in table.varying
    ]


def _setting_columns(table: RunTable) -> list[_Column]:
    """The name, and every setting that varies within the run."""
    name: _Column = ("Case", False, "", lambda row: Cell(row.label, row.label, "name", row.case.label))
    return [name, *((key.capitalize(), False, "", _setting(key)) for key in table.varying or ("shape",))]


def _setting(name: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(settings(row.case)[name], settings(row.case)[name])


def _number_columns(table: RunTable) -> list[_Column]:
    scale, unit = table.unit

    return [
        ("Rank", True, "the places it may have within its group, as far as the noise allows", _rank),
        (f"Median, {unit}", True, "", lambda r: _median(r, (scale, unit))),
        ("95 %", True, "half width of the interval across rounds", _width),
        ("Flags", False, "", _flag_cell),
        *(
            (f"{parts.title(name)}, {unit}", True, parts.meaning(name), _part(name, scale))
            for name in parts.present(table)
        ),
        ("vs best", True, "ratio to the fastest of the group, paired by round", _versus),
        (f"p90, {unit}", True, "from 64 samples of one inference each",
         lambda r: quantile(r.summary.p90, scale, loops=max(r.summary.loop_counts))),
        (f"p99, {unit}", True, "from 662 samples of one inference each",
         lambda r: quantile(r.summary.p99, scale, loops=max(r.summary.loop_counts))),
        ("GMACs", True, "multiply-accumulates; the papers say FLOPs", lambda r: number(r.gmacs, fmt.gmacs)),
        ("Params, M", True, "", lambda r: number(r.params_m, lambda v: fmt.significant(v, 3))),
        ("GMAC/s", True, "achieved", lambda r: number(r.gmacs_per_s, lambda v: fmt.significant(v, 3))),
        ("Images/s", True, "batch over the mean time of an inference, with its copies where they are timed",
         lambda r: number(r.summary.throughput_per_s, lambda v: fmt.significant(v, 3))),
        ("Device memory", True, "the most that a round took", _device_memory),
        ("Parity", False, "largest relative error: of the file, or as timed where the runtime lowers that",
         _parity_cell),
        ("Top-1 as fp32", True, "of the outputs as timed: positions (images, of a classifier) whose largest"
         " channel is that of the eager fp32 model; a proxy, no accuracy", _top1_cell),
        ("Samples", True, "rounds × samples per round", _sample_count),
        ("Outliers", True, "mild + severe by Tukey's fences; they stay in the numbers", _outliers),
    ]  # fmt: skip


def _part(name: str, scale: float) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        found = parts.median_ns(row, name)
        return number(found, lambda value: fmt.significant(value / scale, 3))

    return cell


def _device_memory(row: Row) -> Cell:
    found = parts.device_bytes(row)
    return Cell(fmt.MISSING) if found is None else Cell(fmt.size(found), found)


def _rank(row: Row) -> Cell:
    return (
        Cell(str(row.rank), row.rank.first + row.rank.last / 1000)
        if row.rank
        else Cell(fmt.MISSING, title="not ranked: see its flags")
    )


def _median(row: Row, unit: tuple[float, str]) -> Cell:
    s = row.summary
    text = fmt.duration(s.median_ns, half_width=s.half_width, unit=unit).removesuffix(f" {unit[1]}")
    return Cell(text, s.median_ns, "doubtful" if row.serious else "strong", _details(row))


def _details(row: Row) -> str:
    s = row.summary
    return (
        f"mean {fmt.duration(s.mean_ns)}, min {fmt.duration(s.min_ns)}, max {fmt.duration(s.max_ns)},"
        f" MAD {fmt.duration(s.mad_ns)}, IQR/median {fmt.percent(s.iqr_ratio)},"
        f" loops per sample {', '.join(map(str, s.loop_counts))}"
    )


def _width(row: Row) -> Cell:
    return Cell(fmt.plus_minus(row.summary.half_width), row.summary.half_width)


def _versus(row: Row) -> Cell:
    ratio = row.versus_best
    if ratio is None:
        return Cell(fmt.MISSING, 1.0 if row.rank else None)
    return Cell(fmt.ratio_interval(ratio.value, ratio.low, ratio.high), ratio.value)


def _parity_cell(row: Row) -> Cell:
    found = agreement.checked(row.result)
    if found is None:
        return Cell(fmt.MISSING)
    passed, error = found
    return Cell(f"{'ok' if passed else 'FAILED'} {fmt.error(error)}", error, "" if passed else "bad")


def _top1_cell(row: Row) -> Cell:
    found = agreement.as_timed(row.result)
    return Cell(agreement.briefly(row.result), found.share) if found else Cell(fmt.MISSING)


def _sample_count(row: Row) -> Cell:
    s = row.summary
    return Cell(f"{s.rounds} × {s.samples // s.rounds}", s.samples)


def _outliers(row: Row) -> Cell:
    s = row.summary
    return Cell(f"{s.mild_outliers} + {s.severe_outliers}", s.mild_outliers + s.severe_outliers)


def _flag_cell(row: Row) -> Cell:
    if not row.flags:
        return Cell("")
    text = ", ".join(flag.label for flag in row.flags)
    return Cell(text, text, "flagged", " ".join(flag.advice for flag in row.flags))


def _unmeasured(result: CaseResult, name: str, columns: list[_Column]) -> Line:
    """A planned case without a number keeps its line, and says under Flags why it has none."""
    failure = result.failure
    text = f"failed: {failure.kind.replace('_', ' ')}" if failure else "not measured yet"
    if failure and result.untimed:
        text = "built, not timed"
    words = settings(result.case)
    known = {
        "Case": Cell(name, name, "name", result.case.label),
        "Flags": Cell(text, text, "bad" if failure and not result.untimed else ""),
        **{key.capitalize(): Cell(value, value) for key, value in words.items()},
    }
    cells = tuple(known.get(head, Cell(fmt.MISSING)) for head, *_ in columns)
    return Line(cells, _keys(result.case, name), "missing")


def _keys(case: Case, label: str) -> dict[str, str]:
    words = settings(case)
    return {**words, "search": " ".join([label, case.label, *words.values()]).lower()}
