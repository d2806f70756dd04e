"""A Core ML package as one file: a package is a folder, and an artifact is a file with one sha256.

The form is a ZIP without compression (weights do not compress) with the package as its one top folder,
entries sorted, times and permissions fixed. Identifiers in the manifest, which coremltools draws at random,
are made from the entries' paths. Equal programs with equal weights give equal bytes. Any unzip opens it, but
for the empty folder of weights of a model without weights, which `unpack` makes; `converters.mil_load` reads
the packages of others. No toolchain is imported here.
"""

from __future__ import annotations

import json
import shutil
import stat
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST, FOLDER, SUFFIX = "Manifest.json", "model.mlpackage", ".mlpackage.zip"
# What coremltools adds for a debugger of another project, with numbers that change from run to run.
LEFT_OUT = ("executorch_debug_handle_mapping.json",)

_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


def pack(folder: Path, path: Path) -> None:
    """Write the package in `folder` to the ZIP `path`."""
    manifest = json.loads((folder / MANIFEST).read_text())
    text = json.dumps(_with_fixed_identifiers(manifest), indent=4, sort_keys=True) + "\n"
    files = {item.relative_to(folder).as_posix(): item for item in folder.rglob("*") if item.is_file()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files.keys() - set(LEFT_OUT)):
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _TIME)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3
            entry.file_size = len(text.encode()) if name == MANIFEST else files[name].stat().st_size
            with archive.open(entry, "w") as target:
                if name == MANIFEST:
                    target.write(text.encode())
                else:
                    with files[name].open("rb") as source:
                        shutil.copyfileobj(source, target, _CHUNK)


def unpack(path: Path, folder: Path) -> None:
    """Extract what `pack` wrote as the package `folder`, in place of one that is there.

    For files of this project whose sha256 is known. Raises ValueError for a ZIP of another form.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        for entry in entries:
            parts = entry.filename.split("/")
            if parts[0] != FOLDER or len(parts) < 2 or {"", ".", ".."} & set(parts) or "\\" in entry.filename:
                raise ValueError(
                    f"{path.name}: entry '{entry.filename[:80]}' is not of a packed Core ML package"
                )
        if folder.exists():
            _remove_package(folder)
        for entry in entries:
            target = folder / entry.filename.removeprefix(f"{FOLDER}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
    for item in json.loads((folder / MANIFEST).read_text())["itemInfoEntries"].values():
        place = folder / "Data" / item["path"]
        if not place.exists():  # Core ML refuses a package without a folder that its manifest names
            place.mkdir(parents=True)


def _remove_package(folder: Path) -> None:
    """Raises ValueError where the folder is no package: nothing else is ever removed."""
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is there and is no Core ML package; move it away")
    shutil.rmtree(folder)


def _with_fixed_identifiers(manifest: Mapping[str, Any]) -> dict[str, Any]:
    entries = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])) for old, entry in entries.items()}
    return {
        **manifest,
        "itemInfoEntries": {names[old]: entry for old, entry in entries.items()},
        "rootModelIdentifier": names[manifest["rootModelIdentifier"]],
    }
