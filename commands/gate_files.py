"""The user's own files that a gate makes BASE's cases of again: checkpoints, and ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from commands import UsageError
from commands.checkpoints import OPTION, read_checkpoint, split
from commands.config import Suite
from converters.artifact import ConversionRequest
from converters.keys import cache_key
from converters.stages import source_request
from models.spec import OF_A_FILE, Case, ModelSpec

_DIGITS = 12  # of a sha256, in a message


def given_checkpoints(texts: Iterable[str], cases: Sequence[Case], *, base: str) -> dict[str, Path]:
    """The files of `--checkpoint NAME=FILE` by the weights that they hold; one model may have several.

    `cases` are those of the run `base`. Raises UsageError for a file that none of them was made of.
    """
    models = dict.fromkeys(case.model for case in cases if not case.model.is_file)
    names = tuple(dict.fromkeys(model.name for model in models))
    found = {}
    for text in texts:
        name, path = split(text, names, others=0)
        read = read_checkpoint(name, Path(path).expanduser().absolute())
        of_model = [model for model in models if model.name == name and _is_of_a_file(model)]
        if read.weights not in [model.weights for model in of_model]:
            known = ", ".join(dict.fromkeys(_sha256(model.weights) for model in of_model))
            told = f"{name} was measured with {known}" if known else f"it measured no checkpoint of {name}"
            raise UsageError(f"{OPTION} {text}: is {_sha256(read.weights)}, and not a file of {base}: {told}")
        found[read.weights] = read.path
    return found


def listed_checkpoints(suite: Suite | None, weights: Collection[str]) -> dict[str, Path]:
    """Those of `weights` that the checkpoints of a suite of bench.toml hold.

    A file that is not there any more, or holds other weights by now, gives nothing.
    """
    matrices = suite.matrix if suite is not None else []
    listed = {(name, Path(path)) for matrix in matrices for name, path in matrix.checkpoints.items()}
    read = [read_checkpoint(name, path) for name, path in sorted(listed) if path.is_file()]
    return {one.weights: one.path for one in read if one.weights in weights}


def without_file(requests: Mapping[Case, ConversionRequest], is_made: Callable[[str], bool]) -> list[Case]:
    """The cases that are still to be made of a file that nobody named.

    `is_made` tells whether the cache has the artifact of a key; what is built from another one needs that.
    """
    return [
        case
        for case, request in requests.items()
        if _is_of_a_file(case.model) and request.checkpoint is None
        if not any(is_made(cache_key(one)) for one in (request, source_request(request)) if one is not None)
    ]


def missing_text(cases: Iterable[Case], *, base: str, command: str) -> str:
    """Which case is made of which file, and how that is given. `command` is the one that BASE was made by."""
    chosen = sorted(cases, key=lambda case: case.model.is_file)
    nets = list(dict.fromkeys(case.model.name for case in chosen if not case.model.is_file))
    advice = ["Give " + " ".join(f"{OPTION} {name}=FILE" for name in nets)] if nets else []
    if chosen[-1].model.is_file:
        advice.append(f"Name ONNX files as {base} did, by `{command}`")
    return "\n".join(
        [
            f"the cache does not have what the present code makes of these cases of {base}, and where their"
            " files lie is not known:",
            *(f"  {case.label}: {_kind(case.model)} {_sha256(case.model.weights)}" for case in chosen),
            f"{'. '.join(advice)}. Or compare stored numbers with --stored.",
        ]
    )


def _sha256(weights: str) -> str:
    """`sha256 0123456789ab`, of `sha256:0123456789ab…`."""
    return f"sha256 {weights.removeprefix(OF_A_FILE)[:_DIGITS]}"


def _is_of_a_file(model: ModelSpec) -> bool:
    return model.weights.startswith(OF_A_FILE)


def _kind(model: ModelSpec) -> str:
    return "ONNX file" if model.is_file else "checkpoint"
