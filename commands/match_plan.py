"""What a search for networks of one latency would do and what it costs, without doing it."""

from __future__ import annotations

import json
from typing import Any

from commands.latency_match import FEW_ROUNDS, MAX_ROUNDS
from commands.match_request import MatchRequest
from reports import formatting as fmt


def print_plan(request: MatchRequest, *, as_json: bool) -> None:
    """On stdout, as lines or as one JSON document."""
    print(json.dumps(document(request)) if as_json else "\n".join(lines(request)))


def document(request: MatchRequest) -> dict[str, Any]:
    """Plain values. `seconds_at_least` is of measuring: no file is made and nothing trained in it."""
    fine = request.fine
    return {
        "schema": 1,
        "suite": request.suite,
        "reference": {"model": request.reference.model.name, request.knob: request.reference_setting},
        "models": list(request.models),
        "deployment": request.reference.label,
        "knob": {"name": request.knob, "settings": _ends(request.settings)},
        "fine_knob": {"name": fine.name, "settings": _ends(fine.settings)} if fine else None,
        "tolerance": request.tolerance,
        "searched_tolerance": request.searched_tolerance,
        "rounds": request.rounds,
        "seconds_at_least": _seconds(request),
        "trainings": len(request.recipes) * (1 + len(request.models)),
        "epochs": request.recipes[0].epochs if request.recipes else 0,
        "images": request.images[0],
    }


def lines(request: MatchRequest) -> list[str]:
    """For people: what is searched, measured and learned, and how long that takes at least."""
    told = [
        f"suite {request.suite}: {fmt.count(len(request.models), 'network')} at the time of"
        f" {request.reference.label}, {request.knob} {request.reference_setting}",
        *(f"  {name}" for name in request.models),
        f"search: {request.knob} {_span(request.settings)}{_fine(request)}; {FEW_ROUNDS} to {MAX_ROUNDS}"
        " pairs of rounds a setting",
        f"last run: {request.rounds} rounds of {1 + len(request.models)} networks in turns, judged within"
        f" {100 * request.tolerance:g} %",
        f"measuring takes at least {_seconds(request):.0f} s, and each new setting is converted first",
    ]
    return [*told, _trainings(request)]


def _fine(request: MatchRequest) -> str:
    if request.fine is None:
        return ""
    near = f"{100 * request.searched_tolerance:g} %"
    return f", then {request.fine.name} {_span(request.fine.settings)} where none is within {near}"


def _trainings(request: MatchRequest) -> str:
    if not request.recipes:
        return "nothing is trained: --seeds N trains each network N times"
    networks, seeds, epochs = 1 + len(request.models), len(request.recipes), request.recipes[0].epochs
    return (
        f"training: {networks} networks x {fmt.count(seeds, 'seed')} x {fmt.count(epochs, 'epoch')} ="
        f" {networks * seeds * epochs} epochs of {request.images[0]} digits: docs/training.md has the time"
    )


def _seconds(request: MatchRequest) -> float:
    """One setting of each network that is decided at once, and the last run."""
    timing, networks = request.timing, len(request.models)
    each = timing.round_seconds + timing.warmup_seconds
    return each * (2 * FEW_ROUNDS * networks + request.rounds * (1 + networks))


def _span(settings: range) -> str:
    return f"{settings[0]} to {settings[-1]}"


def _ends(settings: range) -> list[int]:
    return [settings[0], settings[-1]]
