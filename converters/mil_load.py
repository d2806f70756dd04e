"""Reading a Core ML package that may come from anywhere: its specification, its weights, its program.

A package is a folder (`X.mlpackage`) or a zip file of one. Names, sizes and links are checked before a
library opens any of its files; nothing in it is executed.
"""

from __future__ import annotations

import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from converters.mil_blobs import check_values
from converters.quiet import captured

MAX_FILES = 256
MAX_BYTES = 16 * 2**30
MAX_MANIFEST_BYTES = 2**20
MAX_SPECIFICATION_BYTES = 2**30
CHUNK = 2**20
NO_WEIGHTS = "no weights"  # the folder of a package whose manifest names none
INSTALL = "pip install '.[coreml]'"


class PackageError(Exception):
    """What is wrong with a package, in words for its user; also that coremltools is not installed."""


@dataclass(frozen=True, slots=True)
class Package:
    """A checked package: `specification` is coremltools' protocol buffer, `weights` the folder of its blobs.

    `folder` is the package itself, extracted where it is a zip file, and there only inside `opened`.
    """

    path: Path
    folder: Path
    specification: Any
    weights: Path
    size_bytes: int

    @property
    def version(self) -> int:
        return int(self.specification.specificationVersion)


@contextmanager
def opened(path: Path) -> Iterator[Package]:
    """The package at a folder or zip file; a zip is extracted to a temporary folder for as long.

    Raises PackageError.
    """
    if path.is_dir():
        yield _package(path, path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="mlpackage-") as temporary:
            package = _package(path, _extracted(path, Path(temporary) / "model.mlpackage"))
            if package.weights.name != NO_WEIGHTS:  # an empty folder, which an archive of files does not have
                package.weights.mkdir(parents=True, exist_ok=True)
            yield package
    else:
        raise PackageError(f"no package at {path}: a folder X.mlpackage, or a zip file of one")


def load_function(package: Package) -> Any:
    """The program's main function as coremltools reads it: operations with types and weights.

    Raises PackageError for models of other kinds and for what coremltools refuses.
    """
    specification = package.specification
    kind = specification.WhichOneof("Type")
    if kind != "mlProgram":
        raise PackageError(f"{package.path} holds a model of type '{kind}', not an ML program")
    name = specification.description.defaultFunctionName or "main"
    if name not in specification.mlProgram.functions:
        have = ", ".join(sorted(specification.mlProgram.functions)[:8])
        raise PackageError(f"{package.path} has no function '{name}'; it has {have or 'none'}")
    _check_values(package)
    with captured():
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            program = load(specification, package.version, str(package.weights))
        except Exception as error:  # coremltools raises many types at what a foreign file holds
            raise PackageError(
                f"{package.path}: coremltools cannot read the program: {type(error).__name__}:"
                f" {str(error)[:300]}"
            ) from error
    return program.functions[name]


def _check_values(package: Package) -> None:
    try:
        check_values(package.specification.mlProgram, package.weights)
    except ValueError as error:
        raise PackageError(f"{package.path}: {error}") from None


def _package(path: Path, folder: Path) -> Package:
    size_bytes = _checked_size(path, folder)
    items = _items(path, folder)
    specification = items["specification"]
    if specification.stat().st_size > MAX_SPECIFICATION_BYTES:
        raise PackageError(f"{path}: {specification.name} has {specification.stat().st_size} bytes; too many")
    model = _model_message()
    try:
        model.ParseFromString(specification.read_bytes())
    except Exception as error:  # the protocol buffer library has no exception of its own that is public
        raise PackageError(f"{path}: {specification.name} is no Core ML specification ({error})") from None
    return Package(path, folder, model, items["weights"], size_bytes)


def _model_message() -> Any:
    with captured():
        try:
            from coremltools import proto
        except ImportError as error:
            raise PackageError(f"reading Core ML files needs coremltools: {INSTALL} ({error})") from None
        return proto.Model_pb2.Model()


def _checked_size(path: Path, folder: Path) -> int:
    """The bytes of all files. Raises PackageError for links, special files and too many or too large ones."""
    total = 0
    for count, entry in enumerate(folder.rglob("*"), start=1):
        status = entry.lstat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            name = str(entry.relative_to(folder))[:100]
            raise PackageError(
                f"{path}: {name!r} is a link or a special file; a package has plain files only"
            )
        total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if count > MAX_FILES or total > MAX_BYTES:
            raise PackageError(f"{path}: more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB")
    return total


def _items(path: Path, folder: Path) -> dict[str, Path]:
    """The specification and the folder of weights, from the manifest. Raises PackageError."""
    manifest = folder / "Manifest.json"
    if not manifest.is_file() or manifest.stat().st_size > MAX_MANIFEST_BYTES:
        raise PackageError(f"{path} has no Manifest.json of a sensible size: it is no Core ML package")
    try:
        value = json.loads(manifest.read_bytes())
        entries, root = value["itemInfoEntries"], value["rootModelIdentifier"]
        specification = _inside(folder, entries[root]["path"])
        weights = [_inside(folder, entry["path"]) for entry in entries.values() if entry["name"] == "weights"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(
            f"{path}: Manifest.json cannot be read ({type(error).__name__}: {error})"
        ) from None
    if not specification.is_file():
        raise PackageError(f"{path}: Manifest.json names a specification that is not there")
    return {"specification": specification, "weights": weights[0] if weights else folder / NO_WEIGHTS}


def _inside(folder: Path, name: str) -> Path:
    """`Data/NAME` of a package. Raises ValueError for a name that leads elsewhere."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise ValueError(f"the path {name[:100]!r} leads out of the package")
    return folder / "Data" / pure


def _extracted(path: Path, target: Path) -> Path:
    """The package's folder from a zip file, entry by entry. Raises PackageError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise PackageError(f"{path}: more than {MAX_FILES} entries or {MAX_BYTES >> 30} GiB")
            for entry in entries:
                _extract(path, archive, entry, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise PackageError(f"{path} is no zip file of a package: {error}") from None
    found = sorted(place.parent for place in target.glob("Manifest.json")) or sorted(
        place.parent for place in target.glob("*/Manifest.json")
    )
    if len(found) != 1:
        raise PackageError(f"{path} holds {len(found)} packages; one is expected")
    return found[0]


def _extract(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    name = PurePosixPath(entry.filename)
    outside = name.is_absolute() or ".." in name.parts or "\\" in entry.filename
    if outside or len(entry.filename) > 512 or not name.parts:
        raise PackageError(f"{path}: the entry {entry.filename[:100]!r} leads out of the archive")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PackageError(f"{path}: the entry {entry.filename[:100]!r} is a link or a special file")
    place = target / name
    if entry.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        return
    if place.exists():
        raise PackageError(f"{path}: the entry {entry.filename[:100]!r} is there twice")
    place.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, place.open("xb") as file:
        left = entry.file_size
        while data := source.read(CHUNK):
            left -= len(data)
            if left < 0:  # a zip file can lie about its entries' sizes
                raise PackageError(f"{path}: the entry {entry.filename[:100]!r} is larger than it says")
            file.write(data)
