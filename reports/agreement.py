"""How often a case gives the eager fp32 model's top-1, and how far it is off: a proxy on its few inputs.

What ran tells it: a runtime may compute in another precision than its file holds (OpenVINO makes bf16 of an
fp32 file), and then the file's parity is another precision's. No accuracy: that takes labelled images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from converters.artifact import Parity
from reports import formatting as fmt
from reports.records import CaseResult
from runners.measurement import Top1


def as_timed(result: CaseResult) -> Top1 | None:
    """Of the outputs that the measuring processes compared, the worst of the rounds that compared most; None
    where none did. The first round of a precision that the runtime lowers by itself compares more inputs.
    """
    rounds = result.measurement.rounds if result.measurement else ()
    found = [taken.top1 for taken in rounds if taken.top1 is not None]
    return min(found, key=lambda one: (-one.positions, one.share), default=None)


def of_file(result: CaseResult) -> Parity | None:
    """The file's own parity; None where the runtime computes in another precision than the file holds."""
    artifact = result.artifact
    return artifact.parity if artifact and artifact.precision == result.case.precision else None


def output_error(result: CaseResult) -> float | None:
    """The largest relative error of the outputs as timed; None where nothing compared them."""
    rounds = result.measurement.rounds if result.measurement else ()
    return max((r.output_error for r in rounds if math.isfinite(r.output_error)), default=None)


def checked(result: CaseResult) -> tuple[bool, float] | None:
    """(within tolerance, largest relative error) of what a case computes; None where nothing was compared.

    Of its file; where the runtime computes in another precision, of its outputs: beyond their tolerance a
    process fails, and gives no round.
    """
    if parity := of_file(result):
        return parity.passed, parity.max_relative
    artifact = result.artifact
    error = output_error(result) if artifact and artifact.precision != result.case.precision else None
    return None if error is None else (True, error)


def words(result: CaseResult) -> str:
    """`top-1 as eager fp32: 4 of 4 images; its file: 15 of 16, cosine 0.9991`."""
    ran, parity = as_timed(result), of_file(result)
    told = [f"top-1 as {_reference([result])}: {_count(ran, result)}"] if ran else []
    if parity:
        told.append(f"its file: {_of_file(parity)}, cosine {parity.cosine:.4f}")
    elif (error := output_error(result)) is not None:
        told.append(f"largest error {fmt.error(error)}")
    return "; ".join(told) or "outputs not compared"


def at_least(results: Sequence[CaseResult]) -> str:
    """The worst of several cases, as the end of a sentence; empty where nothing was compared."""
    timed = [(ran, result) for result in results if (ran := as_timed(result))]
    files = [parity for result in results if (parity := of_file(result))]
    text = ""
    if timed:
        ran, result = min(timed, key=lambda one: one[0].share)
        text = f"; as timed, the top-1 is that of {_reference(results)} for {_count(ran, result)} at least"
    if files:
        least = _of_file(min(files, key=lambda parity: parity.top1_agreement))
        text += f"; by the file alone, for {least}{' at least' if len(files) > 1 else ''}"
    return text


def briefly(result: CaseResult) -> str:
    """`4 of 4`; empty where nothing was compared."""
    ran = as_timed(result)
    return f"{ran.agreeing:,} of {ran.positions:,}" if ran else ""


def file_share(parity: Parity) -> str:
    """`93.75 %, 15 of 16`; the share alone of a file of before positions were counted."""
    share = fmt.percent(parity.top1_agreement, digits=4)
    return f"{share}, {_of_file(parity)}" if parity.top1_positions else share


def _of_file(parity: Parity) -> str:
    if not parity.top1_positions:
        return fmt.percent(parity.top1_agreement, digits=3)
    return f"{parity.top1_agreeing:,} of {parity.top1_positions:,}"


def _count(ran: Top1, result: CaseResult) -> str:
    outputs = result.artifact.outputs if result.artifact else ()
    noun = "image" if outputs and len(outputs[0].shape) == 2 else "position"
    return f"{ran.agreeing:,} of {fmt.count(ran.positions, noun)}"


def _reference(results: Iterable[CaseResult]) -> str:
    """An ONNX file of a user's own has no eager form: what is compared with is the file as it came."""
    return "the untouched file" if all(r.case.model.is_file for r in results) else "eager fp32"
