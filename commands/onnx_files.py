"""`--model PATH.onnx`: a user's own ONNX file as cases of a suite, named by its base name and sha256."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands import UsageError
from commands.own_resolution import OWN
from converters.onnx_header import HeaderError, OnnxHeader, identity, read_header
from models.facts import USUAL_SIDE
from models.spec import ONNX_SUFFIX, ModelSpec, sorted_options

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A file that the command line names; `header` is None where its bytes tell none: its cases will fail.

    So they will where it is not opened, for the reason `refusal`: then nobody knows its sha256, and its path
    stands for it.
    """

    path: Path
    sha256: str
    header: OnnxHeader | None = field(compare=False)
    refusal: str = ""

    @property
    def weights(self) -> str:
        if self.refusal:
            return f"unread:{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}"
        return f"sha256:{self.sha256}"

    @property
    def precision(self) -> str:
        """That of most of its weights."""
        return self.header.precision if self.header else "fp32"

    def spec(self, dims: Sequence[int]) -> ModelSpec:
        """Of an input of these dimensions, the batch left out."""
        square = len(dims) == 3 and dims[0] == CHANNELS and dims[1] == dims[2]
        shape = {} if square else {"input_shape": "x".join(map(str, dims))}
        return ModelSpec(self.path.name, dims[-1], sorted_options(shape), self.weights)


def is_file_name(name: str) -> bool:
    return name.lower().endswith(ONNX_SUFFIX)


def opened(text: str) -> OnnxFile:
    """The file of a `--model`; a link, what is no plain file or cannot be read is not opened, and says why.

    Raises UsageError for another ending, and where nothing has that name.
    """
    path = Path(text).expanduser()
    if path.suffix != ONNX_SUFFIX:
        raise UsageError(f"--model {text}: the name of an ONNX file ends in {ONNX_SUFFIX}: rename it")
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return _unread(
                path, f"--model {text}: is a symbolic link: name the file itself, {path.resolve()}"
            )
        if not stat.S_ISREG(status.st_mode):
            return _unread(path, f"--model {text}: is no plain file")
        return OnnxFile(path.absolute(), identity(path), _header(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"--model {text}: cannot be read: {error.strerror}") from None
    except OSError as error:
        return _unread(path, f"--model {text}: cannot be read: {error.strerror}")


def _unread(path: Path, reason: str) -> OnnxFile:
    return OnnxFile(path.absolute(), "", None, reason)


def _header(path: Path) -> OnnxHeader | None:
    try:
        return read_header(path)
    except HeaderError:
        return None


def specs(file: OnnxFile, asked: Sequence[str], usual: Sequence[int]) -> list[ModelSpec]:
    """One for every resolution `asked` for, else the file's own, else the matrix's `usual` ones.

    A shape that the file does not take is found out by its conversion, which then fails. Raises UsageError
    for a file that leaves its shape open where nothing says which to measure.
    """
    sides = [int(value) for value in asked if "x" not in value and value != OWN]
    own = _own_dims(file)
    if own is None:
        return [file.spec((CHANNELS, side, side)) for side in sides or usual or (USUAL_SIDE,)]
    if len(own) == 3 and (sides or None in own[1:]):
        channels = own[0] or CHANNELS
        if not (sides or usual):
            raise UsageError(
                f"--model {file.path}: leaves the side of its image open: name one with --resolution"
            )
        return [file.spec((channels, side, side)) for side in sides or usual]
    known = [side for side in own if side]
    if not own or len(known) < len(own):
        words = "x".join(str(side or "?") for side in own) or "nothing"
        raise UsageError(
            f"--model {file.path}: its input is {words} behind the batch: export it with a fixed shape"
        )
    return [file.spec(known)]


def _own_dims(file: OnnxFile) -> tuple[int | None, ...] | None:
    """What its only input has behind the batch; None where it has not one input, which conversion tells."""
    inputs = list(file.header.inputs.values()) if file.header else []
    return inputs[0][1:] if len(inputs) == 1 else None
