"""Everything that crosses the mailbox is refused unless this program can have written it."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents import archive
from device_agents.bodies import Begin, RoundTaken, as_table, body_of
from device_agents.forms import FormError, canonical, parsed
from device_agents.job import DeviceJob
from device_agents.journal import Entry, JournalFile, read
from device_agents.mailbox import Orders
from tests.device_agents import make_fixtures
from tests.device_agents.make_fixtures import FIXTURES
from tests.device_agents.small_job import make_job

JOB_ID = "0123456789abcdef"


def test_the_fixtures_that_swift_is_tested_with_are_what_the_code_writes():
    for name, data in make_fixtures.expected().items():
        assert (FIXTURES / name).read_bytes() == data, f"run {make_fixtures.__file__}"


def refused_jobs():
    rows = json.loads((FIXTURES / "refused.json").read_text())["jobs"]
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return [(row["why"], deep if row["nested"] else bytes.fromhex(row["hex"])) for row in rows]


@pytest.mark.parametrize(
    ("why", "text"), refused_jobs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_job_that_this_program_cannot_have_written_is_refused(why, text):
    with pytest.raises(FormError):
        DeviceJob.from_bytes(text)


def test_a_job_comes_back_as_it_was(tmp_path):
    job, _ = make_job(tmp_path)
    assert DeviceJob.from_bytes(job.to_bytes()) == job
    assert replace(job, attempt=1).job_id != job.job_id


@given(
    st.recursive(
        st.integers(-(2**62), 2**62) | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_canonical_text_is_read_back_and_nothing_else_is(value):
    try:
        text = canonical({"a": value})
    except UnicodeEncodeError:  # half of a surrogate pair is no text
        return
    assert parsed(text, "x", max_bytes=1 << 20) == {"a": value}
    with pytest.raises(FormError):
        parsed(text + b" ", "x", max_bytes=1 << 20)


@pytest.mark.parametrize("forget", [["../x"], ["0123456789ABCDEF"], ["0123456789abcde"], [""], [7]])
def test_orders_name_jobs_and_nothing_else(forget):
    value = {"format": "deploybench device orders", "schema": 1, "run": "", "forget": forget}
    with pytest.raises(FormError):
        Orders.from_bytes(canonical(value))


def journal_bytes(folder, count=3):
    file = JournalFile(folder / "j", JOB_ID)
    for _ in range(count):
        file.append("begin", as_table(Begin("compile", -1, 5)), 7)
    return (folder / "j").read_bytes()


def test_every_changed_bit_of_a_journal_is_found(tmp_path):
    data = journal_bytes(tmp_path)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        if place == len(data) - 1:  # the end of the last line: it counts as cut short
            assert len(read(bytes(changed), JOB_ID).entries) == 2
            continue
        last = place >= data.rindex(b"\n", 0, len(data) - 1) + 1
        try:
            found = read(bytes(changed), JOB_ID)
        except FormError:
            continue
        assert last, f"byte {place} was changed unseen"  # nothing stands behind the last line to name it
        assert found.entries[:2] == read(data, JOB_ID).entries[:2]


def test_a_journal_cut_anywhere_is_its_whole_lines(tmp_path):
    data = journal_bytes(tmp_path)
    for length in range(len(data) + 1):
        assert len(read(data[:length], JOB_ID).entries) == data[:length].count(b"\n")


@pytest.mark.parametrize("order", [(0, 0), (1,), (0, 2), (0, 1, 1), (1, 0), (2, 1, 0)])
def test_lost_doubled_and_swapped_lines_are_refused(tmp_path, order):
    lines = journal_bytes(tmp_path).splitlines(keepends=True)
    with pytest.raises(FormError, match="does not follow"):
        read(b"".join(lines[index] for index in order), JOB_ID)


def test_a_journal_of_another_job_and_one_too_large_are_refused(tmp_path, monkeypatch):
    data = journal_bytes(tmp_path)
    with pytest.raises(FormError, match="belongs to job"):
        read(data, "f" * 16)
    monkeypatch.setattr("device_agents.journal.MAX_JOURNAL_BYTES", len(data) - 1)
    with pytest.raises(FormError, match="at most"):
        read(data, JOB_ID)


def round_table(**changes):
    reading = {
        "thermal_state": "nominal", "battery_permille": -1, "charging": True, "low_power_mode": False,
        "memory_bytes": -1, "available_memory_bytes": -1,
    }  # fmt: skip
    table = {
        "round_index": 0, "loop_count": 1, "steady": True, "started_at_ns": 1, "warmup_span_ns": 1,
        "timed_span_ns": 1, "samples_ns": [1], "warmup_ns": [], "before": reading, "after": reading,
    }  # fmt: skip
    return {**table, **changes}


def entry(kind, body):
    return Entry(kind, body, JOB_ID, 0, 0, 1, "0" * 64)


def test_a_round_is_read():
    body = body_of(entry("round", round_table()))
    assert isinstance(body, RoundTaken)
    assert body.samples_ns == (1,)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_ns": []}, {"samples_ns": [0]}, {"samples_ns": [-1]}, {"samples_ns": [True]},
        {"samples_ns": ["1"]}, {"samples_ns": [1 << 63]}, {"loop_count": 0}, {"before": {}}, {"steady": 1},
        {"extra": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_round_that_cannot_have_been_measured_is_refused(changes):
    with pytest.raises(FormError):
        body_of(entry("round", round_table(**changes)))


def test_an_unknown_problem_and_thermal_state_are_refused():
    with pytest.raises(FormError):
        body_of(entry("failed", {"problem": "made_up", "stage": "load", "message": ""}))
    hot = {**round_table()["before"], "thermal_state": "boiling"}
    with pytest.raises(FormError):
        body_of(entry("round", round_table(before=hot)))


# -- packages ----------------------------------------------------------------------------------------------

PACKAGE = {
    "Manifest.json": b"{}",
    "Data/com.apple.CoreML/model.mlmodel": b"abc",
    "Data/w/weight.bin": b"\0" * 99,
}


def put(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_folder_and_a_zip_of_it_give_one_archive(tmp_path):
    folder = put(tmp_path / "x.mlpackage", PACKAGE)
    subprocess.run(["python3", "-m", "zipfile", "-c", "x.zip", "x.mlpackage"], cwd=tmp_path, check=True)
    packed = archive.pack(archive.package_files(folder))
    assert archive.pack(archive.package_files(tmp_path / "x.zip")) == packed
    (tmp_path / "again.zip").write_bytes(packed)
    assert archive.package_files(tmp_path / "again.zip") == PACKAGE


def weightless(**items):
    """A package without weights; its manifest names the specification and `items`."""
    entries = {"1": {"name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}, **items}
    manifest = json.dumps({"itemInfoEntries": entries, "rootModelIdentifier": "1"})
    return {"Manifest.json": manifest.encode(), "Data/com.apple.CoreML/model.mlmodel": b"abc"}


NAMED = {"2": {"name": "weights", "path": "com.apple.CoreML/weights"}}


@pytest.mark.parametrize(("items", "folders"), [({}, 0), (NAMED, 1)])
def test_a_package_without_weights_has_the_folder_that_its_manifest_names(tmp_path, items, folders):
    """Empty or left out where it comes from, as version control leaves it out; there where it is unpacked."""
    given = put(tmp_path / "x.mlpackage", weightless(**items))
    packed = archive.pack(archive.package_files(given))
    (given / "Data/com.apple.CoreML/weights").mkdir()
    assert archive.pack(archive.package_files(given)) == packed
    (tmp_path / "x.zip").write_bytes(packed)
    archive.unpack(archive.package_files(tmp_path / "x.zip"), tmp_path / "again.mlpackage")
    assert archive.package_files(tmp_path / "again.mlpackage") == weightless(**items)
    found = [path for path in (tmp_path / "again.mlpackage/Data/com.apple.CoreML").iterdir() if path.is_dir()]
    assert len(found) == folders


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{}", b"[]", b'{"itemInfoEntries": 3, "rootModelIdentifier": "1"}', b"[" * 99999]
    + [weightless(**{"2": {"path": path}})["Manifest.json"] for path in ("../../x", "/etc", "a b", 3, "")],
)
def test_a_manifest_that_is_none_or_leads_out_is_refused_before_anything_is_written(tmp_path, manifest):
    with pytest.raises(FormError, match="package: "):
        archive.unpack({**weightless(), "Manifest.json": manifest}, tmp_path / "x.mlpackage")
    assert not list(tmp_path.iterdir())


def zipped(path, *entries):
    with zipfile.ZipFile(path, "w") as file:
        for entry_, data in entries:
            file.writestr(entry_, data)
    return path


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/x", "a/../../x", "a\\b", "C:x", "a//b", "./a", "é", "a b", "/".join("abcdefghi")],
)
def test_names_that_lead_out_or_are_odd_are_refused(tmp_path, name):
    with pytest.raises(FormError):
        archive.package_files(zipped(tmp_path / "x.zip", ("Manifest.json", b"{}"), (name, b"x")))


def test_links_repeated_names_and_what_is_no_package_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(FormError, match="link"):
        archive.package_files(zipped(tmp_path / "a.zip", ("Manifest.json", b"{}"), (link, b"/etc/passwd")))
    with pytest.raises(FormError, match="Manifest"):
        archive.package_files(zipped(tmp_path / "b.zip", ("x", b"")))
    with pytest.raises(FormError, match="twice"):
        archive.package_files(zipped(tmp_path / "c.zip", ("Manifest.json", b""), ("manifest.json", b"")))
    (tmp_path / "d.zip").write_bytes(b"PK nothing")
    with pytest.raises(FormError, match="no zip"):
        archive.package_files(tmp_path / "d.zip")
    folder = put(tmp_path / "x.mlpackage", PACKAGE)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(FormError, match="link"):
        archive.package_files(folder)


def test_a_zip_that_unpacks_to_more_than_is_allowed_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MODEL_BYTES", 1000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Manifest.json", b"{}")
        file.writestr("weights", b"\0" * 100_000)
    (tmp_path / "bomb.zip").write_bytes(buffer.getvalue())
    with pytest.raises(FormError, match="unpacked"):
        archive.package_files(tmp_path / "bomb.zip")
