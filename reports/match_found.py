"""What a search for networks of one latency found, as the run that measures them keeps it.

Written for the standard library alone: a file of records from another machine may hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reports.records import RunInfo
from reports.strict import FormError, built

MATCH = "match"  # in a run's config


@dataclass(frozen=True, slots=True)
class FoundNetwork:
    """Where the search ended: `setting` of the knob, and of the `fine` one where that was moved.

    `finding` is what the search says of it, empty for the reference. `trainings` are the digests of what the
    network learns, one per seed, empty where nothing is trained.
    """

    case_id: str
    setting: int
    finding: str = ""
    fine: tuple[str, int] | None = None
    trainings: tuple[str, ...] = ()

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> FoundNetwork:
        fine = value["fine"]
        return FoundNetwork(
            **{**value, "fine": tuple(fine) if fine else None, "trainings": tuple(value["trainings"])}
        )


@dataclass(frozen=True, slots=True)
class MatchFound:
    """The reference first, then every network that has a setting; `failures` says why others have none.

    `tolerance` is the share of the reference's time by which the run's own rounds judge a network. `seeds`
    and `epochs` are those of the trainings.
    """

    knob: str
    tolerance: float
    networks: tuple[FoundNetwork, ...]
    seeds: int = 0
    epochs: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failures": dict(self.failures)}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> MatchFound:
        networks = tuple(FoundNetwork.from_dict(each) for each in value["networks"])
        return MatchFound(**{**value, "networks": networks})


def found_of(info: RunInfo) -> MatchFound | None:
    """None for a run that no search was made for. Raises FormError for what no search finds."""
    if MATCH not in info.config:
        return None
    what = f"run.config.{MATCH}"
    found = built(MatchFound.from_dict, info.config[MATCH], what)
    ids = [each.case_id for each in found.networks]
    if not ids or sorted(ids) != sorted(info.case_ids):
        raise FormError(f"{what}.networks: are not the cases of the run")
    if not 0.0 < found.tolerance < 1.0:
        raise FormError(f"{what}.tolerance: {found.tolerance} is no share between 0 and 1")
    return found
