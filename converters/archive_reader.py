"""Reading an archive of artifacts that may come from anywhere: checked byte by byte, nothing of it executed.

The only archive that is accepted is the one that archive.py would write from the manifest: entries in the
manifest's order, with the one header that they can have. Links, devices, other names, repeated names,
extended headers and sparse files are therefore refused without being interpreted, and names that lead out of
the folder cannot occur.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from converters import archive
from converters.archive import BLOCK, CHUNK, MANIFEST, ArchiveError, Member
from converters.files import sha256_of
from models.spec import is_deeper


@dataclass(frozen=True)
class Manifest:
    """What an archive says about itself; `sha256` names its content, `size_bytes` is the manifest's own."""

    path: Path
    content: Mapping[str, Any]
    members: tuple[Member, ...]
    sha256: str
    size_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(member.size_bytes for member in self.members)


def read_manifest(path: Path) -> Manifest:
    """The manifest of an archive, checked, and the archive's length with it.

    Raises ArchiveError for what is no archive, was made by a newer version, is truncated or was changed.
    """
    with _opened(path) as file:
        size = _manifest_size(path, file)
        text = file.read(size)
        _expect(path, file.read(-size % BLOCK), archive.padding(size), "the space behind the manifest")
        length = file.seek(0, os.SEEK_END)
    manifest = _parsed(path, text)
    end = archive.end_of(size, manifest.members)
    expected = end + len(archive.trailer(end))
    if length < expected:
        raise ArchiveError(f"{path} is truncated: {length} of {expected} bytes; copy it again")
    if length > expected:
        raise ArchiveError(f"{path} holds more than its manifest lists: {length} bytes, not {expected}")
    return manifest


def extract(manifest: Manifest, folder: Path) -> None:
    """Put the archive's files below `folder`; those that are there already, with their content, stay.

    A file appears under its name only when its sha256 is the manifest's. Raises ArchiveError for an archive
    that is not what the manifest lists, and for a folder without enough space or that cannot be written.
    """
    path = manifest.path
    with _opened(path) as file, _writable(path, folder):
        _prepare(manifest, folder)
        file.seek(archive.end_of(manifest.size_bytes, ()))
        for member in manifest.members:
            _check_header(path, file.read(BLOCK), member)
            _place(path, file, member, folder)
            _expect(
                path, file.read(-member.size_bytes % BLOCK), archive.padding(member.size_bytes), member.name
            )
        end = archive.trailer(file.tell())
        _expect(path, file.read(len(end) + 1), end, "the end of the archive")


def _manifest_size(path: Path, file: BinaryIO) -> int:
    block = file.read(BLOCK)
    try:
        size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
    except (tarfile.TarError, ValueError) as error:
        raise ArchiveError(f"{path} is no bundle of this program ({error})") from None
    if not 0 <= size <= archive.MAX_MANIFEST_BYTES or block != archive.header(MANIFEST, size):
        raise ArchiveError(f"{path} is no bundle of this program: it does not begin with {MANIFEST}")
    return size


def _parsed(path: Path, text: bytes) -> Manifest:
    try:
        value = json.loads(text)
        if is_deeper(value, archive.MAX_LEVELS):
            raise ValueError(f"its lists and tables are nested in more than {archive.MAX_LEVELS} levels")
        schema = value["schema"]
        if type(schema) is int and schema > archive.SCHEMA:
            raise ArchiveError(
                f"{path} has schema {schema}, newer than the {archive.SCHEMA} that this version reads: update"
                " this machine's copy of the project"
            )
        members = tuple(Member.from_dict(entry) for entry in value["files"])
        content, sha256 = value["content"], value["sha256"]
        same = archive.manifest_bytes(content, members) == text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise ArchiveError(f"{path}: {MANIFEST} cannot be read ({reason}); copy the bundle again") from None
    if schema != archive.SCHEMA or not same:
        raise ArchiveError(f"{path}: {MANIFEST} is not as it was written; copy the bundle again")
    if list(members) != sorted(set(members)) or len({m.name for m in members}) != len(members):
        raise ArchiveError(f"{path}: {MANIFEST} lists files twice or out of order")
    if len(members) > archive.MAX_FILES:
        raise ArchiveError(f"{path}: {MANIFEST} lists {len(members)} files; at most {archive.MAX_FILES}")
    return Manifest(path, content, members, sha256, len(text))


def _prepare(manifest: Manifest, folder: Path) -> None:
    files = folder / archive.FOLDER
    for place in (folder, files):
        if place.is_symlink():
            raise ArchiveError(f"{place} is a link: remove it, so that nothing is written elsewhere")
    files.mkdir(parents=True, exist_ok=True)
    missing = sum(m.size_bytes for m in manifest.members if not (folder / m.name).exists())
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ArchiveError(
            f"{folder} has {free / 1e6:.0f} MB free, the files of {manifest.path} need"
            f" {missing / 1e6:.0f} MB: free some space, or name a --store on another disk"
        )


def _check_header(path: Path, block: bytes, member: Member) -> None:
    if block != archive.header(member.name, member.size_bytes):
        raise ArchiveError(
            f"{path}: {_described(block)} stands where {member.name} is listed; nothing is used"
        )


def _described(block: bytes) -> str:
    """An entry that must not be there, for the message."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except (tarfile.TarError, ValueError):
        return "something that is no tar header"
    kinds = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.DIRTYPE: "a folder"}
    kind = kinds.get(info.type, "a file" if info.type == tarfile.REGTYPE else "a special entry")
    return f"{kind} named {info.name[:100]!r} of {info.size} bytes"


def _place(path: Path, file: BinaryIO, member: Member, folder: Path) -> None:
    """The next `member.size_bytes` bytes as a file, or past them where the file is there."""
    target = folder / member.name
    if _is_there(target, member):
        file.seek(member.size_bytes, os.SEEK_CUR)
        return
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            found = _copy(file, member.size_bytes, out)
            out.flush()
            os.fsync(out.fileno())
        if found != member.sha256:
            raise ArchiveError(
                f"{path}: {member.name} is not the file that was archived (its sha256 is {found[:12]}…);"
                " copy the bundle again"
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _is_there(target: Path, member: Member) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != member.size_bytes:
        return False
    return sha256_of(target) == member.sha256


def _copy(file: BinaryIO, size_bytes: int, out: BinaryIO) -> str:
    state, left = hashlib.sha256(), size_bytes
    while left and (data := file.read(min(CHUNK, left))):
        out.write(data)
        state.update(data)
        left -= len(data)
    return state.hexdigest() if not left else "cut short"


def _expect(path: Path, found: bytes, wanted: bytes, what: str) -> None:
    if found != wanted:
        raise ArchiveError(f"{path}: {what} is not as it was written; copy the bundle again")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if not path.is_file():
        raise ArchiveError(f"no bundle at {path}: `bundle` makes one")
    try:
        with path.open("rb") as file:
            yield file
    except PermissionError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def _writable(path: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be extracted to {folder}: {error.strerror or error}; free space there, or name a"
            " --store in another folder"
        ) from error
