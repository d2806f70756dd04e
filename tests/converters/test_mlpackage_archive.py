"""A package as one file: equal bytes for equal content, and out again as it was."""

from __future__ import annotations

import json
import stat
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from converters.mlpackage_archive import FOLDER, LEFT_OUT, MANIFEST, pack, unpack

FILES = {
    "Data/com.apple.CoreML/model.mlmodel": b"program",
    "Data/com.apple.CoreML/weights/weight.bin": b"\0\1",
}


def package(folder: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """A package as coremltools writes it, with identifiers of its own."""
    (folder / "Data/com.apple.CoreML/weights").mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / LEFT_OUT[0]).write_text(str(uuid.uuid4()))
    model, weights = str(uuid.uuid4()), str(uuid.uuid4())
    entries = {
        model: {"name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
        weights: {"name": "weights", "path": "com.apple.CoreML/weights"},
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": model}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(package(tmp_path / name), tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_entries_are_sorted_plain_and_of_no_time(tmp_path: Path) -> None:
    pack(package(tmp_path / "a"), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(f"{FOLDER}/{name}" for name in (*FILES, MANIFEST))
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {stat.S_IMODE(entry.external_attr >> 16) for entry in entries} == {0o644}


def test_out_again(tmp_path: Path) -> None:
    pack(package(tmp_path / "a"), tmp_path / "a.zip")
    target = tmp_path / "made.mlpackage"
    unpack(tmp_path / "a.zip", target)
    unpack(tmp_path / "a.zip", target)  # in place of the first
    assert {name: (target / name).read_bytes() for name in FILES} == FILES
    manifest = json.loads((target / MANIFEST).read_text())
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    assert root["path"] == "com.apple.CoreML/model.mlmodel"
    assert not (target / LEFT_OUT[0]).exists()


def test_the_empty_folder_of_a_model_without_weights_is_there_again(tmp_path: Path) -> None:
    model = "Data/com.apple.CoreML/model.mlmodel"
    pack(package(tmp_path / "a", {model: b"program"}), tmp_path / "a.zip")
    unpack(tmp_path / "a.zip", tmp_path / "made.mlpackage")
    assert list((tmp_path / "made.mlpackage/Data/com.apple.CoreML/weights").iterdir()) == []
    assert (tmp_path / "made.mlpackage" / model).read_bytes() == b"program"


@pytest.mark.parametrize(
    "name", ["../escape", f"{FOLDER}/../../escape", "/escape", "other/file", f"{FOLDER}/a//b"]
)
def test_no_other_archive_is_unpacked(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not of a packed Core ML package"):
        unpack(zipped(tmp_path / "a.zip", name), tmp_path / "inner" / "made.mlpackage")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_nothing_but_a_package_is_ever_replaced(tmp_path: Path) -> None:
    pack(package(tmp_path / "a"), tmp_path / "a.zip")
    mine = tmp_path / "made.mlpackage"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no Core ML package; move it away"):
        unpack(tmp_path / "a.zip", mine)
    assert (mine / "notes.txt").read_text() == "mine"
