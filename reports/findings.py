"""What a run says in words: the headline, one answer per group, where FLOPs mislead. Always computed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reports.flags import doubts
from reports.formatting import MISSING, count, latency_interval, listing, percent, ratio, ratio_interval
from reports.ranking import BATCHES_DELTA
from reports.statistics import Ratio, kendall_tau, paired_ratio
from reports.tables import Facet, Row, RunTable, fused_facets

MAX_INVERSIONS = 3
_MAX_PAIRED = 20
_MAX_NAMED = 3
_MAX_PLACES = 6  # groups named one by one in the headline


@dataclass(frozen=True)
class Inversion:
    """`small` needs fewer GMACs (or parameters) than `large` and yet takes longer, beyond the noise."""

    small: Row
    large: Row
    cost_ratio: float
    time_ratio: Ratio


@dataclass(frozen=True)
class CostAgreement:
    """How well a proxy orders latency within one group: Kendall's tau-b and the worst inversions."""

    tau: float | None
    inversions: tuple[Inversion, ...]
    inverted_pairs: int
    pairs: int


def batches_note() -> str:
    """What must be known of a run in batches before its cases are compared."""
    return (
        "Measured in batches: rounds were interleaved within a batch, and cases of different batches were not"
        " taken side by side. Comparisons between those are unpaired, hold what the machine did in between,"
        f" and tell only cases apart that differ by more than {percent(BATCHES_DELTA)}."
    )


def headline(table: RunTable) -> str:
    """The finding of the run in one sentence."""
    facets = [f for f in fused_facets(table) if f.leaders]
    if not facets:
        return _nothing_measured(table)
    if len(facets) == 1:
        return answer(facets[0])
    if any(len(f.ranked) > 1 for f in facets):
        return _winners(facets)
    rows = [f.leaders[0] for f in facets]
    fastest = min(rows, key=lambda row: row.summary.median_ns)
    place = next(f for f in facets if fastest in f.leaders)
    return f"{count(len(rows), 'case')} measured; {fastest.label} takes {_time(fastest)} at {place.title}."


def answer(facet: Facet) -> str:
    """One sentence on one group: the fastest, how long it takes, and its lead over the next, ties named."""
    leaders = facet.leaders
    if not leaders:
        return f"At {facet.title} no result can be ranked: {_doubts(facet)}."
    text = f"At {facet.title}, {leaders[0].label} takes {_time(leaders[0])}"
    ahead = _first_behind(facet)
    lead = f"{_lead(ahead[0])} faster than {ahead[1]}" if ahead else ""
    if len(leaders) > 1:
        text += f", a tie with {_names(leaders[1:])} inside the noise"
        return f"{text}; it is {lead}." if lead else f"{text}."
    return f"{text}, {lead}." if lead else f"{text}."


def cost_agreement(facet: Facet, cost: str) -> CostAgreement | None:
    """How far GMACs (`gmacs`) or parameters (`params_m`) predict the order of latency in a group.

    Pairs whose latency difference is inside the noise, or whose costs are equal, count as ties.
    None where fewer than three ranked cases have the figure.
    """
    rows = sorted((row for row in facet.ranked if getattr(row, cost)), key=lambda row: _cost(row, cost))
    if len(rows) < 3:
        return None
    ids = [row.case.id for row in rows]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    signs = [
        (-int(_cost(rows[i], cost) < _cost(rows[j], cost)), facet.ordering.sign(ids[i], ids[j]))
        for i, j in pairs
    ]
    inverted = [
        (rows[i], rows[j])
        for (i, j), (cheaper, slower) in zip(pairs, signs, strict=True)
        if cheaper * slower < 0
    ]
    return CostAgreement(kendall_tau(signs), _worst(inverted, cost), len(inverted), len(pairs))


def _worst(inverted: list[tuple[Row, Row]], cost: str) -> tuple[Inversion, ...]:
    """The strongest of (cheaper, dearer but faster) pairs.

    Pairing by round takes its time, and of a thousand cases there are tens of thousands of pairs: the medians
    choose whom to pair.
    """

    def by_medians(pair: tuple[Row, Row]) -> float:
        small, large = pair
        return small.summary.median_ns / large.summary.median_ns * _cost(large, cost) / _cost(small, cost)

    likely = sorted(inverted, key=by_medians, reverse=True)[:_MAX_PAIRED]
    found = [
        Inversion(small, large, _cost(small, cost) / _cost(large, cost), time)
        for small, large in likely
        if (time := paired_ratio(small.measurement, large.measurement))
    ]
    return tuple(sorted(found, key=lambda it: -(it.time_ratio.value / it.cost_ratio))[:MAX_INVERSIONS])


def _cost(row: Row, cost: str) -> float:
    return float(getattr(row, cost))


def describe_agreements(found: list[tuple[Facet, CostAgreement]], proxy: str) -> str:
    """One sentence: `GMACs order the latencies with Kendall τ from 0.51 (7x7x768) to 0.74 (28x28x192)...`"""
    known = sorted(((a.tau, f.title) for f, a in found if a.tau is not None), key=lambda it: it[0])
    wrong, pairs = sum(a.inverted_pairs for _, a in found), sum(a.pairs for _, a in found)
    verb = "is" if wrong == 1 else "are"
    tail = f"{wrong} of {pairs} pairs {verb} the wrong way round beyond the noise."
    if not known:
        return (
            f"{proxy} have nothing to predict: no two cases differ in them and, beyond the noise, in latency."
        )
    (low, worst), (high, best) = known[0], known[-1]
    span = f"{low:.2f} ({worst})" if len(known) == 1 else f"{low:.2f} ({worst}) to {high:.2f} ({best})"
    return f"{proxy} order the latencies with Kendall τ {'from ' if len(known) > 1 else ''}{span}; {tail}"


def worst_inversions(found: list[tuple[Facet, CostAgreement]]) -> list[tuple[Facet, Inversion]]:
    """The strongest contradictions over all groups, each pair of names once."""
    pairs = [(facet, inversion) for facet, agreement in found for inversion in agreement.inversions]
    pairs.sort(key=lambda it: -(it[1].time_ratio.value / it[1].cost_ratio))
    unique = {(it.small.label, it.large.label): (facet, it) for facet, it in reversed(pairs)}
    return sorted(unique.values(), key=lambda it: pairs.index(it))[:MAX_INVERSIONS]


def describe_inversion(inversion: Inversion, proxy: str) -> str:
    """`poolformer has 0.63× the GMACs of ncb but takes 1.21× [1.20, 1.22] as long.`"""
    time = inversion.time_ratio
    return (
        f"{inversion.small.label} has {ratio(inversion.cost_ratio)} the {proxy} of {inversion.large.label}"
        f" but takes {ratio_interval(time.value, time.low, time.high)} as long."
    )


def lead_text(facet: Facet) -> str:
    """`1.30× [1.28, 1.32] to convnext`: the lead of the fastest over the first that does not tie with it."""
    ahead = _first_behind(facet)
    return f"{_lead(ahead[0])} to {ahead[1]}" if ahead else MISSING


def _first_behind(facet: Facet) -> tuple[Ratio, str] | None:
    """The lead of the fastest over the next row that it beats beyond the noise, with who shares its rank."""
    best = facet.leaders[0] if facet.leaders else None
    for row in facet.ranked:
        ahead = paired_ratio(row.measurement, best.measurement) if best else None
        if ahead and best and facet.sign(row, best) > 0 and row not in facet.leaders:
            return ahead, _names([other for other in facet.ranked if other.rank == row.rank])
    return None


def _winners(facets: list[Facet]) -> str:
    """One winner everywhere, one that is never beaten, or who wins where."""
    names = [frozenset(row.label for row in f.leaders) for f in facets]
    kinds = {"block" if facet.is_block else "network" for facet in facets}
    kind = kinds.pop() if len(kinds) == 1 else "case"
    unbeaten = frozenset.intersection(*names)
    if len(set(names)) == 1 and len(names[0]) == 1:
        return _same_winner(facets, kind)
    if len(unbeaten) == 1:
        return _never_beaten(facets, kind, next(iter(unbeaten)))
    groups: dict[frozenset[str], list[Facet]] = {}
    for facet, who in zip(facets, names, strict=True):
        groups.setdefault(who, []).append(facet)
    named = list(groups.items())
    if len(facets) > _MAX_PLACES:
        named = sorted(named, key=lambda it: -len(it[1]))[:_MAX_NAMED]
    parts = [
        f"{'a tie of ' if len(who) > 1 else ''}{_names(won[0].leaders)} {_places(won, facets)}"
        for who, won in named
    ]
    left = len(facets) - sum(len(won) for _, won in named)
    others = [f"others or ties in {count(left, 'group')}"] if left else []
    return f"No single {kind} is fastest everywhere: {'; '.join([*parts, *others])}."


def _places(won: list[Facet], facets: list[Facet]) -> str:
    """Where, by name; of many groups how many, as their names have all that differs between them."""
    if len(facets) <= _MAX_PLACES or len(won) == 1:
        return f"at {listing([f.title for f in won])}"
    return f"in {len(won)} of {len(facets)} groups"


def _never_beaten(facets: list[Facet], kind: str, winner: str) -> str:
    """`No block beats ncb: it leads at 14x14x384, and ties with mbconv at 7x7x768.`"""
    alone = [f.title for f in facets if len(f.leaders) == 1]
    ties = [
        f"ties with {_names([row for row in f.leaders if row.label != winner])} at {f.title}"
        for f in facets
        if len(f.leaders) > 1
    ]
    *before, last = [f"leads at {listing(alone)}", *ties] if alone else ties
    return f"No {kind} beats {winner}: it {', '.join(before)}{', and ' if before else ''}{last}."


def _same_winner(facets: list[Facet], kind: str) -> str:
    winner = facets[0].leaders[0].label
    leads = [(*found, facet) for facet in facets if (found := _first_behind(facet))]
    text = f"{winner} is the fastest {kind} {_everywhere(facets)}"
    if not leads:
        return f"{text}."
    ahead, rival, facet = min(leads, key=lambda lead: lead[0].value)
    return f"{text}, by at least {_lead(ahead)} (over {rival}, at {facet.title})."


def _everywhere(facets: list[Facet]) -> str:
    """`at all 4 shapes`, `on both backends`, or `in all 6 groups` where more than one setting varies."""
    number = "both" if len(facets) == 2 else f"all {len(facets)}"
    varying = [n for n in facets[0].settings if len({f.settings[n] for f in facets}) > 1]
    words = {"shape": f"at {number} shapes", "backend": f"on {number} backends"}
    return words.get(",".join(varying), f"in {number} groups")


def _nothing_measured(table: RunTable) -> str:
    if any(f.rows for f in table.facets):
        why = doubts(flag for row in table.rows for flag in row.flags)
        return f"No result can be ranked: every measured case is flagged {why}."
    if table.untimed and not table.failures:
        why = listing(list(dict.fromkeys(r.failure.message for r in table.untimed if r.failure)))
        return f"Nothing was timed: {count(len(table.untimed), 'case')} built, and {why}."
    if not table.failures:
        return f"Nothing was measured yet: {count(table.planned, 'case')} planned."
    kinds = Counter(r.failure.kind.replace("_", " ") for r in table.failures if r.failure)
    reasons = listing([f"{kind} ({number})" for kind, number in kinds.most_common()])
    built = len(table.untimed) + sum(bool(r.failure and r.failure.built) for r in table.failures)
    also = f"; {count(built, 'artifact')} built but not timed" if built else ""
    failed = f"{len(table.failures)} of {count(table.planned, 'case')} failed"
    return f"Nothing was measured: {failed}, {reasons}{also}."


def _names(rows: tuple[Row, ...] | list[Row]) -> str:
    labels = [row.label for row in rows]
    if len(labels) > _MAX_NAMED + 1:
        labels = [*labels[:_MAX_NAMED], f"{len(labels) - _MAX_NAMED} more"]
    return listing(labels)


def _time(row: Row) -> str:
    s = row.summary
    return latency_interval(s.median_ns, s.low_ns, s.high_ns)


def _lead(ahead: Ratio) -> str:
    """`1.30× [1.28, 1.32]`; a lead of less than a tenth reads better in percent: `4.1 % [3.5 %, 4.7 %]`."""
    if ahead.value >= 1.1 or ahead.low is None or ahead.high is None:
        return ratio_interval(ahead.value, ahead.low, ahead.high)
    return f"{percent(ahead.value - 1)} [{percent(ahead.low - 1)}, {percent(ahead.high - 1)}]"


def _doubts(facet: Facet) -> str:
    return listing(
        [f"{row.label} ({', '.join(f.label for f in row.flags if f.serious)})" for row in facet.rows]
    )
