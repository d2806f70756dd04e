"""Archives of artifacts: one form, written from the content alone, and no other form is read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import archive
from converters.archive import ArchiveError, Member
from converters.archive_reader import extract, read_manifest
from models.spec import digest

CONTENT = {"suite": "tiny", "cases": [{"id": "a", "ratio": 0.1}]}
FILES = {".onnx": b"graph" * 200, ".npz": bytes(range(256)) * 3, ".engine": b""}


def members(folder: Path, files: dict[str, bytes] | None = None) -> dict[Member, Path]:
    found = {}
    for suffix, data in (FILES if files is None else files).items():
        path = folder / f"model{suffix}"
        path.write_bytes(data)
        found[Member.of(path, hashlib.sha256(data).hexdigest())] = path
    return found


def make(folder: Path, name: str = "bundle.tar", **options) -> Path:
    path = folder / name
    with path.open("wb") as file:
        archive.write(file, CONTENT, members(folder, **options))
    return path


def read_all(path: Path, folder: Path) -> None:
    extract(read_manifest(path), folder)


def test_what_was_written_comes_back(tmp_path):
    path = make(tmp_path)
    manifest = read_manifest(path)
    assert manifest.content == CONTENT
    extract(manifest, tmp_path / "out")
    written = {p.suffix: p.read_bytes() for p in (tmp_path / "out/files").iterdir()}
    assert written == FILES
    assert not list((tmp_path / "out").rglob("*.part"))


def test_equal_content_gives_equal_bytes_whenever_and_wherever(tmp_path):
    (tmp_path / "other").mkdir()
    one, two = make(tmp_path), make(tmp_path / "other", "renamed.tar")
    os.utime(two, (0, 0))
    assert one.read_bytes() == two.read_bytes()
    assert str(tmp_path).encode() not in one.read_bytes()


def test_tar_reads_it(tmp_path):
    with tarfile.open(make(tmp_path)) as tar:
        names = tar.getnames()
        assert all(info.mtime == info.uid == info.gid == 0 and info.uname == "" for info in tar)
    assert names[0] == "manifest.json"
    assert names[1:] == sorted(names[1:])
    assert len(names) == 1 + len(FILES)


def test_the_manifest_names_the_content(tmp_path):
    path = make(tmp_path)
    manifest = read_manifest(path)
    assert manifest.sha256 == archive.content_digest(CONTENT, manifest.members)
    changed = make(tmp_path, "changed.tar", files={".onnx": b"another graph"})
    assert read_manifest(changed).sha256 != manifest.sha256


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_bit_matters(tmp_path, data):
    good = make(tmp_path).read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(good)
    changed[place] ^= 1 << bit
    path = tmp_path / "changed.tar"
    path.write_bytes(changed)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with pytest.raises(ArchiveError):
        read_all(path, tmp_path / "out")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_part_of_an_archive_is_refused(tmp_path, data):
    good = make(tmp_path).read_bytes()
    path = tmp_path / "part.tar"
    path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(ArchiveError):
        read_all(path, tmp_path / "out")


def test_more_than_the_manifest_lists_is_refused(tmp_path):
    path = make(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(ArchiveError, match="more than its manifest lists"):
        read_manifest(path)


def foreign(path: Path, info: tarfile.TarInfo, data: bytes = b"") -> None:
    """Replace the archive's first file by another entry of the same length, with a valid header."""
    good = path.read_bytes()
    first = read_manifest(path).members[0]
    start = good.index(first.name.encode())
    block = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    path.write_bytes(good[:start] + block[:512] + data + good[start + 512 + len(data) :])


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("files/link")
    info.type, info.linkname = kind, target
    return info


def sized(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


@pytest.mark.parametrize(
    ("info", "named"),
    [
        (link(tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
        (link(tarfile.LNKTYPE, "../../secret"), "a hard link"),
        (link(tarfile.CHRTYPE, ""), "a special entry"),
        (link(tarfile.FIFOTYPE, ""), "a special entry"),
        (link(tarfile.DIRTYPE, ""), "a folder"),
        (sized("../../escaped", 4), "escaped"),
        (sized("/tmp/escaped", 4), "escaped"),
        (sized("files/" + "a" * 64 + ".onnx", 1 << 60), "1152921504606846976"),
        (sized("manifest.json", 4), "manifest.json"),
    ],
    ids=["symlink", "hardlink", "device", "fifo", "folder", "traversal", "absolute", "huge", "duplicate"],
)
def test_any_other_entry_is_refused_and_named(tmp_path, info, named):
    path = make(tmp_path)
    foreign(path, info)
    with pytest.raises(ArchiveError, match="nothing is used") as refused:
        read_all(path, tmp_path / "deep/er/out")
    assert named in str(refused.value)
    assert not [p for p in tmp_path.rglob("*") if "escaped" in p.name or "link" in p.name]


def test_an_ordinary_tar_is_no_bundle(tmp_path):
    path = tmp_path / "plain.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(sized("notes.txt", 5), io.BytesIO(b"hello"))
    with pytest.raises(ArchiveError, match="no bundle of this program"):
        read_manifest(path)
    path.write_bytes(b"")
    with pytest.raises(ArchiveError, match="no bundle of this program"):
        read_manifest(path)
    with pytest.raises(ArchiveError, match="no bundle at"):
        read_manifest(tmp_path / "missing.tar")


def crafted(path: Path, change) -> Path:
    """An archive whose manifest was changed and its sha256 made to match."""
    manifest = read_manifest(path)
    value = json.loads(archive.manifest_bytes(manifest.content, manifest.members))
    change(value)
    value["sha256"] = digest({"content": value["content"], "files": value["files"]})
    text = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    body = path.read_bytes()[archive.end_of(manifest.size_bytes, ()) :]
    path.write_bytes(archive.header("manifest.json", len(text)) + text + archive.padding(len(text)) + body)
    return path


def set_file(name: str, value: object):
    def change(manifest):
        manifest["files"][0][name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_file("sha256", "../../../../etc/passwd"),
        set_file("sha256", "A" * 64),
        set_file("suffix", "/../../escaped"),
        set_file("suffix", ".onnx\0.txt"),
        set_file("suffix", 3),
        set_file("size_bytes", -1),
        set_file("size_bytes", True),
        set_file("size_bytes", 1 << 40),
        set_file("size_bytes", 1.5),
        lambda manifest: manifest["files"].append(manifest["files"][0]),
        lambda manifest: manifest["files"].reverse(),
        lambda manifest: manifest["files"].pop(),
        lambda manifest: manifest["files"][0].update(mode=0o777),
        lambda manifest: manifest.update(files={}),
        lambda manifest: manifest.update(schema=True),
        lambda manifest: manifest.update(schema="1"),
    ],
)
def test_a_manifest_that_no_archive_can_have_is_refused(tmp_path, change):
    path = crafted(make(tmp_path), change)
    with pytest.raises(ArchiveError):
        read_all(path, tmp_path / "out")
    assert not [p for p in tmp_path.rglob("*") if "escaped" in p.name]


def test_a_newer_schema_says_update(tmp_path):
    path = crafted(make(tmp_path), lambda manifest: manifest.update(schema=2))
    with pytest.raises(ArchiveError, match="newer than the 1 that this version reads"):
        read_manifest(path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    path = make(tmp_path)
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(ArchiveError, match="at most 2"):
        read_manifest(path)
    with pytest.raises(ArchiveError, match="more than the 2"):
        make(tmp_path, "again.tar")


def test_a_file_that_is_there_stays_and_a_damaged_one_is_replaced(tmp_path):
    path = make(tmp_path)
    read_all(path, tmp_path / "out")
    kept, damaged = sorted((tmp_path / "out/files").glob("*.*"))[:2]
    inode = kept.stat().st_ino
    good = damaged.read_bytes()
    damaged.write_bytes(b"x" * len(good) if good else b"x")
    read_all(path, tmp_path / "out")
    assert kept.stat().st_ino == inode
    assert damaged.read_bytes() == good


def test_links_in_the_target_folder_are_not_followed(tmp_path):
    path = make(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="is a link"):
        read_all(path, tmp_path / "out")
    (tmp_path / "out/files").unlink()
    (tmp_path / "out/files").mkdir()
    first = read_manifest(path).members[0]
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out" / first.name).symlink_to(tmp_path / "secret")
    read_all(path, tmp_path / "out")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert not (tmp_path / "out" / first.name).is_symlink()


def test_a_file_that_changes_while_it_is_archived_is_found(tmp_path):
    paths = members(tmp_path)
    next(iter(paths.values())).write_bytes(b"another")
    with pytest.raises(ArchiveError, match="was changed while it was archived"):
        archive.write(io.BytesIO(), CONTENT, paths)


def test_a_full_disk_leaves_no_file(tmp_path):
    """A limit on the size of files stands in for the end of the disk: the write fails part-way."""
    path = make(tmp_path, files={".onnx": bytes(200_000)})
    code = f"""
import resource, signal, sys
from pathlib import Path
from converters.archive_reader import extract, read_manifest
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
extract(read_manifest(Path({str(path)!r})), Path({str(tmp_path / "out")!r}))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode != 0
    assert "cannot be extracted" in done.stderr
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
