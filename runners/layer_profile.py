"""A CPU runtime's own profile by layer: taken after the timed part, in inferences of their own.

A runner that has one offers a method `profile()`: nanoseconds of one inference by layer, in order of
execution. It may let go of what was timed, so it comes last. A GPU's profile comes from its DeviceSide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runners.measurement import BETWEEN_LAYERS, BY_NEIGHBOURS, Job
from runners.runner import HOST_CLOCK, Clock, Runner, RunnerError

WARM_UP = 2  # the first inferences of a session allocate
PATH, JOINED = ": /", " + "  # before the path of a layer's first node, and between the names of several
LEAST, MOST, SECONDS = 4, 12, 3.0  # inferences that count, and for how long more of them are taken


@dataclass(frozen=True, slots=True)
class Pass:
    """One profiled inference: `total_ns` as a whole, and by layer."""

    total_ns: int
    layers: Mapping[str, int]


def take(job: Job, runner: Runner) -> tuple[Mapping[str, int], dict[str, str]]:
    """(nanoseconds by layer, what the environment says of it), both empty where none is asked for or offered.

    All that matters is measured by then: a profile that fails costs no round.
    """
    profile: Callable[[], Mapping[str, int]] | None = getattr(runner, "profile", None)
    if profile is None or not job.options.get("profile"):
        return {}, {}
    try:
        return profile(), {}
    except RunnerError as error:
        return {}, {"layers_error": str(error)}


def repeat(infer: Callable[[int], None], inputs: int, *, clock: Clock = HOST_CLOCK) -> None:
    """The warm-up and the inferences that count, on every input in turn."""
    for number in range(WARM_UP):
        infer(number % inputs)
    begun_ns, taken = clock(), 0
    while taken < LEAST or (taken < MOST and clock() - begun_ns < SECONDS * 1e9):
        infer(taken % inputs)
        taken += 1


def typical(passes: Sequence[Pass]) -> dict[str, int]:
    """Mean nanoseconds by layer over the middle half of the inferences, by their totals, then BETWEEN_LAYERS.

    So the parts add up to what one inference took, and a disturbed one does not count. Layers are given as
    `Conv: /stem/conv/Conv`, in order of execution. Raises RunnerError `infer` where there is no inference,
    or where the layers differ between them.
    """
    if not passes:
        raise RunnerError("infer", "the runtime's profile holds no inference")
    names = list(passes[0].layers)
    if any(list(one.layers) != names for one in passes):
        raise RunnerError("infer", "the profile's layers differ between inferences")
    ordered = sorted(passes, key=lambda one: one.total_ns)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    layers = {name: round(sum(one.layers[name] for one in middle) / len(middle)) for name in names}
    total_ns = round(sum(one.total_ns for one in middle) / len(middle))
    named = dict(zip(placed(names), layers.values(), strict=True))
    return {**named, BETWEEN_LAYERS: max(0, total_ns - sum(layers.values()))}


def placed(names: Sequence[str]) -> list[str]:
    """The layers, those without a module's path put into the innermost one that holds both neighbours.

    `Gemm: Gemm_6` becomes `Gemm (by neighbours): /layers/layers.0/Gemm_6`: an optimizer made it there. The
    neighbours are the nearest layers with a path. Where they share no module, a layer stays as it is.
    """
    return [name if PATH in name else _placed(names, place) for place, name in enumerate(names)]


def _placed(names: Sequence[str], place: int) -> str:
    before = next((name for name in reversed(names[:place]) if PATH in name), "")
    after = next((name for name in names[place + 1 :] if PATH in name), "")
    last, first = (
        before.rpartition(JOINED)[2].rpartition(": ")[2],
        after.partition(": ")[2].partition(JOINED)[0],
    )
    pairs = zip(last.split("/")[:-1], first.split("/")[:-1], strict=False)
    shared = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    operator, _, node = names[place].partition(": ")
    return f"{operator}{BY_NEIGHBOURS}: {'/'.join(shared)}/{node}" if any(shared) else names[place]
