"""Files made in two stages: which artifact another one is built from, and in which order they are made.

No toolchain is imported here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from converters.artifact import Artifact, ConversionFailure, ConversionRequest
from models.spec import WITHOUT_FORM, Option, Options, sorted_options

Outcome = Artifact | ConversionFailure

# Any of these gives an engine a batch axis with a range, which its ONNX file has to leave open.
BATCH_RANGE = ("min_batch", "max_batch")


def source_request(request: ConversionRequest) -> ConversionRequest | None:
    """The request of the file that this one is built from; None for what is made from the network itself.

    An engine's ONNX file knows no target and none of the builder's options, so engines of one network for
    several targets share it. Which forms are left out is decided in that file.
    """
    if request.kind != "engine":
        return None
    build: dict[str, Option] = {name: value for name, value in request.build if name == WITHOUT_FORM}
    if has_batch_range(request.build):
        build["dynamic_batch"] = True
    return replace(
        request,
        kind="onnx",
        target="",
        build=sorted_options(build),
        flavour="trt" if request.precision == "int8" else "",
    )


def has_batch_range(build: Options) -> bool:
    """Whether an engine is built for a range of batch sizes."""
    return any(name in BATCH_RANGE for name, _ in build)


class Agenda:
    """What is still to be made: a request is ready when nothing of the agenda is left that it is built from.

    `asked` is what the caller wants; `sources` what else has to be made for it.
    """

    def __init__(self, asked: Sequence[ConversionRequest], sources: Sequence[ConversionRequest]) -> None:
        everything = {*asked, *sources}
        self.count = len(everything)
        self._asked = set(asked)
        self._blocked: dict[ConversionRequest, list[ConversionRequest]] = {}
        free = [*sources]
        for request in asked:
            source = source_request(request)
            if source is not None and source in everything:
                self._blocked.setdefault(source, []).append(request)
            else:
                free.append(request)
        self._ready = deque(sorted(free, key=lambda request: request not in self._blocked))

    def __bool__(self) -> bool:
        """Whether a request is ready."""
        return bool(self._ready)

    def take(self, may: Callable[[ConversionRequest], bool]) -> ConversionRequest | None:
        """The first that is ready and `may` be made: sources first, then what one has just made possible."""
        for request in self._ready:
            if may(request):
                self._ready.remove(request)
                return request
        return None

    def settle(
        self, request: ConversionRequest, outcome: Outcome
    ) -> list[tuple[ConversionRequest, Outcome, bool]]:
        """What an outcome settles: the request, and where it failed all that needed it.

        Each with its outcome and whether the caller asked for it.
        """
        settled = [(request, outcome, request in self._asked)]
        waiting = self._blocked.pop(request, [])
        if isinstance(outcome, Artifact):
            self._ready.extendleft(reversed(waiting))
            return settled
        return settled + [entry for dependant in waiting for entry in self.settle(dependant, outcome)]
