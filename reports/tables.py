"""A stored run as rows and comparable groups: the view that the terminal, the report and exports share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.spec import Case, Options, forms_left_out
from reports import group_titles
from reports.flags import Flag, flags, ordered
from reports.formatting import count, time_unit
from reports.records import CaseResult, RunInfo, Session, StoredRun
from reports.row_labels import row_labels
from reports.statistics import Ordering, Rank, Ratio, Summary, no_order, order, paired_ratio, summarize
from reports.verdicts import ratio_over_batches
from runners.measurement import Measurement, Protocol

# every setting that keeps two cases from sharing a ranking, and how it reads
_SETTINGS = (
    *("shape", "backend", "precision", "batch", "device", "compute unit", "threads", "fusion", "target"),
    *("build options", "runtime options"),
)
_SMALLEST_SHOWN = 0.05  # a column is in milliseconds while its smallest entry is at least this many


@dataclass(frozen=True)
class Row:
    """One measured case: its statistics, flags, and place among the cases it may be compared with.

    `label` is the shortest name that is unique among cases of its settings; `versus_best` the ratio to the
    group's fastest ranked row, None for that one itself. `rank` is None for a row whose number is in doubt.
    """

    result: CaseResult
    measurement: Measurement
    summary: Summary
    flags: tuple[Flag, ...]
    label: str
    rank: Rank | None = None
    versus_best: Ratio | None = None

    @property
    def case(self) -> Case:
        return self.result.case

    @property
    def gmacs(self) -> float | None:
        """GMACs of one inference: the artifact's figure is that of a single image."""
        artifact = self.result.artifact
        return artifact.gmacs * self.case.batch_size if artifact and artifact.gmacs > 0 else None

    @property
    def params_m(self) -> float | None:
        artifact = self.result.artifact
        return artifact.params_m if artifact and artifact.params_m > 0 else None

    @property
    def gmacs_per_s(self) -> float | None:
        return self.gmacs / (self.summary.median_ns * 1e-9) if self.gmacs else None

    @property
    def serious(self) -> bool:
        return any(flag.serious for flag in self.flags)


@dataclass(frozen=True)
class Facet:
    """Cases that may be ranked: same shape and settings, same protocol. Rows are fastest first.

    `title` names what sets this group apart from the others of the run; `ordering` says which ranked cases
    are told apart, all pairs of the group being one family.
    """

    title: str
    settings: Mapping[str, str]
    protocol: Protocol
    rows: tuple[Row, ...]
    ordering: Ordering = field(default_factory=no_order)

    def sign(self, one: Row, other: Row) -> int:
        """1 where ranked row `one` is slower than `other` beyond the noise, -1 where faster, 0 for a tie."""
        return self.ordering.sign(one.case.id, other.case.id)

    @property
    def is_block(self) -> bool:
        return self.rows[0].case.model.is_block

    @property
    def ranked(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.rank)

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The rows that no other is faster than beyond the noise: they tie with one another."""
        return tuple(row for row in self.ranked if row.rank and row.rank.first == 1)


@dataclass(frozen=True)
class RunTable:
    """A run ready to be shown. `common` lists the settings that all cases share; `flags` those present.

    `untimed` are cases that are built and whose device is elsewhere; they are not among the `failures`.
    `labels` are short names by case id, of cases without a number too: unique among those of equal settings.
    """

    info: RunInfo
    facets: tuple[Facet, ...]
    failures: tuple[CaseResult, ...]
    untimed: tuple[CaseResult, ...]
    pending: tuple[CaseResult, ...]
    sessions: tuple[Session, ...]
    common: tuple[str, ...]
    varying: tuple[str, ...]
    flags: tuple[Flag, ...]
    labels: Mapping[str, str]

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for facet in self.facets for row in facet.rows)

    @property
    def planned(self) -> int:
        return len(self.info.case_ids)

    @property
    def only_untimed(self) -> bool:
        """Every case is built and waits for its device."""
        return bool(self.untimed) and not (self.rows or self.failures or self.pending)

    @property
    def unit(self) -> tuple[float, str]:
        """One time unit for the whole table, so that columns can be read down: (ns per unit, name)."""
        medians = [row.summary.median_ns for row in self.rows]
        return time_unit(min(min(medians) / _SMALLEST_SHOWN, max(medians))) if medians else time_unit(1e6)


def build(run: StoredRun) -> RunTable:
    """Summaries, flags, groups and ranks of a whole run; facets in plan order."""
    cases = [result.case for result in run.results]
    labels = _labels(cases)
    rows = [row for result in run.results if (row := _row(result, run.info.target, labels))]
    varying = _varying(cases)
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        key = (*settings(row.case).values(), row.measurement.protocol.id)
        groups[key].append(row)
    facets = [_facet(group, varying, batched=run.info.is_batched) for group in groups.values()]
    return RunTable(
        info=run.info,
        facets=tuple(group_titles.distinct(facets)),
        failures=tuple(r for r in run.results if r.failure is not None and not r.untimed),
        untimed=tuple(r for r in run.results if r.untimed),
        pending=tuple(r for r in run.results if r.failure is None and not r.rounds),
        sessions=run.sessions,
        common=_common(cases),
        varying=varying,
        flags=ordered(flag for row in rows for flag in row.flags),
        labels=labels,
    )


def settings(case: Case) -> dict[str, str]:
    """What must be equal for two cases to share a ranking, as words: shape, backend, precision, ..."""
    values = (
        _shape(case),
        case.backend,
        case.precision,
        f"batch {case.batch_size}",
        case.device,
        case.compute_unit,
        count(case.threads, "thread"),
        "fused" if case.fused else "unfused",
        case.target,
        _options(case.build),
        _options(case.runtime),
    )
    return dict(zip(_SETTINGS, values, strict=True))


def _options(chosen: Options) -> str:
    """`cuda_graph=True streams=2`; empty where the defaults hold."""
    return " ".join(f"{name}={value}" for name, value in chosen)


def fused_facets(table: RunTable) -> tuple[Facet, ...]:
    """The groups that answer the main question, where there are any: fused and in all forms for deployment,
    and no machine's peaks."""
    models = tuple(f for f in table.facets if not f.rows[0].case.model.name.startswith("peak/"))
    fused = tuple(f for f in models or table.facets if _is_whole(f.rows[0].case))
    return fused or models or table.facets


def _is_whole(case: Case) -> bool:
    return case.fused and not forms_left_out(case.build)


def _row(result: CaseResult, target: float, labels: Mapping[str, str]) -> Row | None:
    measurement = result.measurement
    if measurement is None:
        return None
    summary = summarize(measurement, target=target, batch_size=result.case.batch_size)
    return Row(result, measurement, summary, flags(result, summary), labels[result.case.id])


def _labels(cases: Sequence[Case]) -> dict[str, str]:
    groups: dict[tuple[str, ...], list[Case]] = defaultdict(list)
    for case in cases:
        groups[tuple(settings(case).values())].append(case)
    return {
        case.id: label
        for group in groups.values()
        for case, label in zip(group, row_labels(group), strict=True)
    }


def _facet(group: Sequence[Row], varying: Sequence[str], *, batched: bool) -> Facet:
    """Rank one group, fastest first. A row with a serious flag is shown but takes no place."""
    ordering = order({row.case.id: row.measurement for row in group if not row.serious}, batched=batched)
    relative = ratio_over_batches if batched else paired_ratio
    ranks = ordering.ranks()
    fastest_first = sorted(group, key=lambda r: (r.summary.median_ns, r.case.id))
    best = next((row for row in fastest_first if row.case.id in ranks), None)
    rows = [
        replace(
            row,
            rank=ranks.get(row.case.id),
            versus_best=relative(row.measurement, best.measurement) if best and row is not best else None,
        )
        for row in fastest_first
    ]
    first, words = rows[0], settings(rows[0].case)
    return Facet(_title(words, varying), words, first.measurement.protocol, tuple(rows), ordering)


def _title(words: Mapping[str, str], varying: Sequence[str]) -> str:
    """The shape, and whatever else differs within the run; being fused goes without saying."""
    names = ("shape", *(name for name in varying if name != "shape"))
    return ", ".join(words[name] for name in names if words[name] and words[name] != "fused")


def _shape(case: Case) -> str:
    """The stage of a block, with the stride and output channels that make it another task.

    Empty for another tool's benchmark, which takes no image.
    """
    if not case.model.resolution:
        return ""
    if not case.model.is_block:
        side = f"{case.model.resolution}x{case.model.resolution}"
        return str(case.model.option("input_shape", side))
    parts = [case.model.shape_label]
    stride, out = case.model.option("stride", 1), case.model.option("out_channels")
    if stride != 1:
        parts.append(f"stride {stride}")
    if out is not None and out != case.model.option("in_channels"):
        parts.append(f"to {out} channels")
    return " ".join(parts)


def _varying(cases: Sequence[Case]) -> tuple[str, ...]:
    words = [settings(case) for case in cases]
    return tuple(name for name in _SETTINGS if len({w[name] for w in words}) > 1)


def _common(cases: Sequence[Case]) -> tuple[str, ...]:
    if not cases:
        return ()
    varying = _varying(cases)
    return tuple(value for name, value in settings(cases[0]).items() if name not in varying and value)
