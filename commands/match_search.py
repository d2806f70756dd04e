"""The setting at which a network takes as long as the reference: by its knob, then by a finer one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from commands.latency_beside import BesideReference
from commands.latency_match import LatencyMatch, match
from commands.match_files import MatchFiles
from commands.match_request import MatchRequest, Setting
from reports.progress import Progress
from runners.measurement import Round


@dataclass
class MatchSearch:
    """Rounds of a search only steer it: they are stored nowhere."""

    request: MatchRequest
    files: MatchFiles
    progress: Progress

    def setting_of(self, model: str) -> tuple[Setting, str]:
        """Where the knobs of `model` end, and what the search says of it.

        Raises NoRatioError where a side cannot be measured, CacheError and DeviceBusyError.
        """
        request = self.request
        start = min(max(request.reference_setting, request.settings[0]), request.settings[-1])
        rounds: dict[int, dict[str, list[Round]]] = {}
        found = self._search(
            model, request.settings, lambda value: Setting(request.knob, value), start=start, rounds=rounds
        )
        value = found.nearest.setting
        finding = found.finding(request.knob)
        self._note(model, finding, found)
        if found.matched or request.fine is None:
            return Setting(request.knob, value), finding
        fine = request.fine
        finer = self._search(
            model,
            fine.settings,
            lambda share: self._moved(value, share),
            start=fine.usual,
            rounds={fine.usual: rounds[value]},
        )
        finding = f"{request.knob} {value}, {finer.finding(fine.name)}"
        self._note(model, finding, finer)
        return self._moved(value, finer.nearest.setting), finding

    def _moved(self, value: int, share: int) -> Setting:
        """The knob's `value` with the fine knob at `share`, unless that is where it always is."""
        fine = self.request.fine
        moved = None if fine is None or share == fine.usual else (fine.name, share)
        return Setting(self.request.knob, value, moved)

    def _search(
        self,
        model: str,
        settings: range,
        setting_of: Callable[[int], Setting],
        *,
        start: int,
        rounds: dict[int, dict[str, list[Round]]],
    ) -> LatencyMatch:
        """`rounds` are those that are known by setting, and those that are measured now."""
        request = self.request
        beside = BesideReference(
            self.files.job(request.reference),
            lambda value: self.files.job(request.case(model, setting_of(value))),
            request.timing,
            rounds,
        )

        def measure(value: int, wanted: int) -> list[float]:
            self.progress.round(0, wanted, f"{model} {setting_of(value).label} beside the reference", 0)
            return beside(value, wanted)

        return match(settings, measure, start=start, tolerance=request.searched_tolerance)

    def _note(self, model: str, finding: str, found: LatencyMatch) -> None:
        self.progress.note(f"{model}: {finding} ({found.pairs} pairs of rounds)")
