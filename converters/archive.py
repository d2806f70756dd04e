"""Artifacts as one file that can be carried to another machine: an uncompressed tar with a manifest.

The first entry is `manifest.json`, then come the files that it lists, each stored once and named by its
sha256: `files/SHA256.onnx`. Every byte of the archive follows from the manifest and the files' content, so
equal content gives an equal archive, and reading (archive_reader.py) needs to accept one form only. `tar tf`
lists it. No toolchain is imported here.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from models.spec import digest

SCHEMA = 1
MANIFEST = "manifest.json"
FOLDER = "files"
BLOCK = tarfile.BLOCKSIZE
MAX_FILES = 10_000
MAX_MANIFEST_BYTES = 64 << 20
MAX_LEVELS = 64  # of lists and tables in the manifest; a plan has about ten
MAX_FILE_BYTES = (1 << 33) - 1  # what the size field of a plain tar header holds
CHUNK = 1 << 20
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_]{1,16}){0,2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArchiveError(Exception):
    """An archive cannot be made or is not as it was made; the message names it, the reason and the fix."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A file of an archive: found by its content, `suffix` tells the runtime its format."""

    sha256: str
    suffix: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The entry's name, and its path below the folder that it is extracted to."""
        return f"{FOLDER}/{self.sha256}{self.suffix}"

    @staticmethod
    def of(path: Path, sha256: str) -> Member:
        """Raises OSError where the file is not there."""
        return Member(sha256, path.suffix, path.stat().st_size)

    @staticmethod
    def from_dict(value: object) -> Member:
        """Raises ValueError for what could be no entry, or one that leads out of the folder."""
        if not isinstance(value, dict) or value.keys() != {"sha256", "suffix", "size_bytes"}:
            raise ValueError(f"'{str(value)[:80]}' describes no file")
        sha256, suffix, size = value["sha256"], value["suffix"], value["size_bytes"]
        if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise ValueError(f"'{str(sha256)[:80]}' is no sha256")
        if not (isinstance(suffix, str) and _SUFFIX.fullmatch(suffix)):
            raise ValueError(f"'{str(suffix)[:80]}' is no file suffix")
        if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            raise ValueError(f"a file of {str(size)[:40]} bytes; at most {MAX_FILE_BYTES} are possible")
        return Member(sha256, suffix, size)

    def to_dict(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "suffix": self.suffix, "size_bytes": self.size_bytes}


def write(file: BinaryIO, content: Mapping[str, Any], paths: Mapping[Member, Path]) -> str:
    """Write an archive of files with `content`, a plain JSON value, as what its manifest says about them.

    Returns the sha256 (hex) that names the archive's content. Raises ArchiveError for a file that is too
    large or is not the one that was hashed, and OSError for what the file system refuses.
    """
    members = sorted(paths)
    _check(members)
    manifest = manifest_bytes(content, members)
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ArchiveError(f"the plan takes {len(manifest)} bytes, more than an archive's manifest may have")
    file.write(header(MANIFEST, len(manifest)) + manifest + padding(len(manifest)))
    for member in members:
        file.write(header(member.name, member.size_bytes))
        _copy(paths[member], member, file)
        file.write(padding(member.size_bytes))
    file.write(trailer(end_of(len(manifest), members)))
    return content_digest(content, members)


def content_digest(content: Mapping[str, Any], members: Sequence[Member]) -> str:
    """What names an archive: sha256 over the manifest's content and the list of files."""
    return digest({"content": dict(content), "files": [member.to_dict() for member in members]})


def manifest_bytes(content: Mapping[str, Any], members: Sequence[Member]) -> bytes:
    """The one text of a manifest."""
    value = {
        "schema": SCHEMA,
        "sha256": content_digest(content, members),
        "content": content,
        "files": [member.to_dict() for member in members],
    }
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def header(name: str, size_bytes: int) -> bytes:
    """The one tar header of an entry: a plain file without owner and time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size_bytes, 0o644, 0
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padding(size_bytes: int) -> bytes:
    """Zeros up to the next block."""
    return bytes(-size_bytes % BLOCK)


def trailer(end_bytes: int) -> bytes:
    """Two empty blocks, and zeros up to a whole record, as every tar ends."""
    return bytes(2 * BLOCK + -(end_bytes + 2 * BLOCK) % tarfile.RECORDSIZE)


def end_of(manifest_size: int, members: Sequence[Member]) -> int:
    """Where the trailer begins, in bytes."""
    sizes = (manifest_size, *(member.size_bytes for member in members))
    return sum(BLOCK + size + -size % BLOCK for size in sizes)


def _check(members: Sequence[Member]) -> None:
    if len(members) > MAX_FILES:
        raise ArchiveError(f"{len(members)} files, more than the {MAX_FILES} that an archive may hold")
    for member in members:
        try:
            Member.from_dict(member.to_dict())
        except ValueError as error:
            raise ArchiveError(f"{member.name} cannot be archived: {error}") from None


def _copy(path: Path, member: Member, file: BinaryIO) -> None:
    state, left = hashlib.sha256(), member.size_bytes
    with path.open("rb") as source:
        while left and (data := source.read(min(CHUNK, left))):
            file.write(data)
            state.update(data)
            left -= len(data)
        more = source.read(1)
    if left or more or state.hexdigest() != member.sha256:
        raise ArchiveError(f"{path} was changed while it was archived; run the same command again")
