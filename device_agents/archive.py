"""An mlpackage as one file: a zip whose entries are stored plainly, the same bytes for the same package.

The phone unpacks it with a few lines of its own, which know no compression, links or folders. A package from
outside is untrusted: names, counts and sizes are checked before anything is read.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from device_agents.forms import FormError
from device_agents.job import MAX_MODEL_BYTES

MAX_FILES = 1000
MAX_PARTS = 8
MAX_NAME = 255
_PART = re.compile(r"[!-9;-\[\]-~]+")  # printable ASCII without space, colon, backslash and slash
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = (stat.S_IFREG | 0o644) << 16


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of these files, in the order of their names. Raises FormError for a name or a size."""
    check_names(list(files))
    if sum(map(len, files.values())) > MAX_MODEL_BYTES:
        raise FormError(f"package: larger than {MAX_MODEL_BYTES} bytes")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.external_attr, info.create_system = _PLAIN_FILE, 3
            archive.writestr(info, files[name])
    return buffer.getvalue()


def package_files(path: Path) -> dict[str, bytes]:
    """The files of an `.mlpackage` folder, or of a zip of one, by their names inside the package.

    Raises FormError for links, other special files, names that lead out, and too many or too large files.
    """
    files = _from_folder(path) if path.is_dir() else _from_zip(path)
    if "Manifest.json" not in files:
        raise FormError(f"{path}: no mlpackage: it has no Manifest.json")
    return files


def unpack(files: Mapping[str, bytes], package: Path) -> None:
    """The package as a folder again.

    An archive holds files alone, and Core ML refuses a package without a folder that its manifest names: a
    model without weights has an empty one, which is made here. Raises FormError for another kind of manifest.
    """
    folders = _named_beside_the_model(files["Manifest.json"])
    for name, data in files.items():
        target = package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for name in folders:
        if not (package / name).exists():
            (package / name).mkdir(parents=True)


def check_names(names: list[str]) -> None:
    """Raises FormError for a name that is not a plain relative path, and for one that stands there twice."""
    if not 1 <= len(names) <= MAX_FILES:
        raise FormError(f"package: {len(names)} files; 1 to {MAX_FILES} are allowed")
    if len({name.lower() for name in names}) != len(names):
        raise FormError("package: a name stands there twice")
    for name in names:
        parts = name.split("/")
        plain = all(part not in (".", "..") and _PART.fullmatch(part) and "/" not in part for part in parts)
        if not plain or len(parts) > MAX_PARTS or len(name) > MAX_NAME:
            raise FormError(f"package: {name[:80]!r} is no plain relative name")


def _named_beside_the_model(manifest: bytes) -> list[str]:
    """What a manifest names but the specification itself, by the names inside the package."""
    try:
        value = json.loads(manifest)
        items, root = value["itemInfoEntries"], value["rootModelIdentifier"]
        named = ["Data/" + item["path"] for key, item in items.items() if key != root]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormError(f"package: Manifest.json cannot be read ({type(error).__name__})") from None
    if named:
        check_names(named)
    return named


def _from_folder(path: Path) -> dict[str, bytes]:
    names: dict[str, Path] = {}
    for found in sorted(path.rglob("*")):
        if found.is_symlink() or not (found.is_file() or found.is_dir()):
            raise FormError(f"{found}: a link or special file: a package holds plain files alone")
        if found.is_file():
            names[PurePosixPath(found.relative_to(path)).as_posix()] = found
    check_names(list(names))
    _check_total(path, sum(file.stat().st_size for file in names.values()))
    return {name: file.read_bytes() for name, file in names.items()}


def _from_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_total(path, sum(entry.file_size for entry in entries))
            if any(stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG) for entry in entries):
                raise FormError(f"{path}: a link or special file: a package holds plain files alone")
            names = _inside([entry.filename for entry in entries])
            check_names(names)
            return {name: _content(archive, entry) for name, entry in zip(names, entries, strict=True)}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise FormError(f"{path}: no zip of an mlpackage ({error})") from None


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The entry's bytes, and not one more than it says it has."""
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise FormError(f"package: {entry.filename[:80]!r} has another size than its entry says")
    return data


def _inside(names: list[str]) -> list[str]:
    """Without the folder `X.mlpackage/`, where all names begin with it."""
    first = names[0].split("/")[0] if names else ""
    if first.endswith(".mlpackage") and all(name.startswith(f"{first}/") for name in names):
        return [name.removeprefix(f"{first}/") for name in names]
    return names


def _check_total(path: Path, total: int) -> None:
    if total > MAX_MODEL_BYTES:
        raise FormError(f"{path}: {total} bytes unpacked, at most {MAX_MODEL_BYTES}")
