"""Packages that may come from anywhere: what is wrong with them is said before a library opens a file."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from converters import mil_blobs, mil_load
from converters.mil_load import PackageError, load_function, opened
from tests.converters.mil_programs import converted, ct

SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    return converted(net, (1, 3, 6, 6), tmp_path_factory.mktemp("made") / "made.mlpackage")


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "X.mlpackage"))


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(PackageError, match=words), opened(path) as found:
        load_function(found)


@pytest.mark.parametrize("prefix", ["", "X.mlpackage/"])
def test_a_folder_and_a_zip_of_it_hold_the_same_program(package, tmp_path, prefix):
    archive = zipped(package, tmp_path / "X.mlpackage.zip", prefix)
    names = []
    for path in (package, archive):
        with opened(path) as found:
            assert found.version == 7
            assert found.folder.suffix == ".mlpackage"
            names.append([op.name for op in load_function(found).operations])
    assert names[0] == names[1] != []
    assert not found.folder.exists()  # the zip's, extracted for as long


def test_a_model_without_weights(tmp_path):
    """coremltools refuses it without the empty folder of weights, which no zip of files has."""
    folder = converted(nn.ReLU(), (1, 3, 6, 6), tmp_path / "X.mlpackage")
    empty = folder / Path(WEIGHTS).parent
    assert list(empty.iterdir()) == []
    empty.rmdir()
    with pytest.raises(RuntimeError, match="does not exist"):
        ct.models.MLModel(str(folder), skip_model_load=True)
    with opened(zipped(folder, tmp_path / "X.zip")) as found:
        assert "relu" in {op.op_type for op in load_function(found).operations}
        assert ct.models.MLModel(str(found.folder), skip_model_load=True)
    with opened(folder) as found:
        assert "relu" in {op.op_type for op in load_function(found).operations}
    assert not empty.exists()  # what is given stays as it is


def test_no_package(tmp_path, package):
    refused(tmp_path / "none.mlpackage", "no package at")
    (tmp_path / "empty.mlpackage").mkdir()
    refused(tmp_path / "empty.mlpackage", "no Manifest.json")
    (tmp_path / "text.zip").write_text("no zip")
    refused(tmp_path / "text.zip", "no zip file")
    (package / SPECIFICATION).write_bytes(b"\xff" * 100)
    refused(package, "no Core ML specification")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "com.apple.CoreML/../../../x", "a\\b", "a\0b", 3]
)
def test_a_manifest_cannot_lead_out_of_the_package(package, name):
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = name
    (package / "Manifest.json").write_text(json.dumps(manifest))
    refused(package, "Manifest.json cannot be read")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"itemInfoEntries": 3, "rootModelIdentifier": "a"}', "[" * 99999]
)
def test_a_manifest_that_is_none(package, text):
    (package / "Manifest.json").write_text(text)
    refused(package, "Manifest.json cannot be read")


@pytest.mark.parametrize("place", [WEIGHTS, SPECIFICATION, "Manifest.json", "more"])
def test_links_are_refused(package, tmp_path, place):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"secret")
    (package / place).unlink(missing_ok=True)
    (package / place).symlink_to(target)
    refused(package, "is a link")


def test_special_files_are_refused(package):
    os.mkfifo(package / "pipe")
    refused(package, "special file")


def test_too_many_and_too_large_files(package, monkeypatch):
    monkeypatch.setattr(mil_load, "MAX_FILES", 3)
    refused(package, "more than 3 files")
    monkeypatch.setattr(mil_load, "MAX_FILES", 99)
    monkeypatch.setattr(mil_load, "MAX_BYTES", 1000)
    refused(package, "GiB")


@pytest.mark.parametrize("name", ["../out", "/abs", "a/../../out", "..\\out"])
def test_a_zip_cannot_write_elsewhere(package, tmp_path, name):
    archive = zipped(package, tmp_path / "X.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "out")
    refused(archive, "leads out of the archive")
    assert not (tmp_path / "out").exists()


def test_a_zip_with_a_link_a_name_twice_or_too_many(package, tmp_path, monkeypatch):
    archive = zipped(package, tmp_path / "X.zip")
    with zipfile.ZipFile(archive, "a") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    refused(archive, "'link' is a link")
    archive = zipped(package, tmp_path / "Y.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(archive, "a") as file:
        file.writestr("Manifest.json", "{}")
    refused(archive, "there twice")
    monkeypatch.setattr(mil_load, "MAX_FILES", 3)
    refused(archive, "more than 3 entries")


def test_a_zip_that_lies_about_a_size(package, tmp_path):
    """The directory says 10 bytes; the reader is the library's, which stops or finds a wrong checksum."""
    archive = tmp_path / "X.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in package.rglob("*"):
            file.write(path, str(path.relative_to(package)))
        file.writestr("bomb", b"\0" * 10_000_000)
    data = archive.read_bytes()
    size = (10_000_000).to_bytes(4, "little")
    archive.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    refused(archive, "no zip file|larger than it says")


def test_two_packages_in_a_zip(package, tmp_path):
    both = tmp_path / "both"
    for name in ("A.mlpackage", "B.mlpackage"):
        shutil.copytree(package, both / name)
    refused(zipped(both, tmp_path / "both.zip"), "holds 2 packages")


@pytest.mark.parametrize("size", [0, 100, -1])
def test_weights_that_were_cut_short(package, size):
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[:size])
    refused(package, "cut short")


def test_weights_that_are_not_there(package):
    (package / WEIGHTS).unlink()
    refused(package, "'weight.bin', which is not there")


def edited(package: Path, change: Callable[[object], None]) -> Path:
    """The package with a change to its specification."""
    with opened(package) as found:
        change(found.specification)
        (package / SPECIFICATION).write_bytes(found.specification.SerializeToString())
    return package


def blobs(specification: object) -> list[object]:
    found = []
    for operation in mil_blobs._operations(specification.mlProgram):
        found += [
            v.blobFileValue
            for _, v in mil_blobs._values(operation)
            if v.WhichOneof("value") == "blobFileValue"
        ]
    assert found
    return found


@pytest.mark.parametrize("name", ["@model_path/../../x", "..", "/etc/", "a\\b"])
def test_weights_cannot_lie_elsewhere(package, name):
    refused(
        edited(package, lambda spec: [setattr(blob, "fileName", name) for blob in blobs(spec)]),
        "names the file",
    )


@pytest.mark.parametrize("offset", [1, 2**40, 2**63])
def test_weights_cannot_lie_beyond_their_file(package, offset):
    refused(
        edited(package, lambda spec: [setattr(blob, "offset", offset) for blob in blobs(spec)]), "cut short"
    )


def test_values_of_absurd_size(package, monkeypatch):
    monkeypatch.setattr(mil_blobs, "MAX_ELEMENTS", 100)
    refused(package, "elements; at most 100")
    monkeypatch.setattr(mil_blobs, "MAX_ELEMENTS", 10**9)
    monkeypatch.setattr(mil_blobs, "MAX_OPERATIONS", 2)
    refused(package, "more than 2 operations")


def test_another_kind_of_model(package):
    def change(spec: object) -> None:
        spec.identity.SetInParent()

    refused(edited(package, change), "of type 'identity', not an ML program")


def test_a_function_that_is_not_there(package):
    def change(spec: object) -> None:
        spec.description.defaultFunctionName = "other"

    refused(edited(package, change), "no function 'other'; it has main")


def test_what_coremltools_refuses_is_a_package_error(package):
    def change(spec: object) -> None:
        block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
        next(op for op in block.operations if op.type == "conv").type = "convolve_it"

    refused(edited(package, change), "coremltools cannot read the program")
