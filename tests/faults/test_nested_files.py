"""Files of others whose values are nested however deep: one line that names the file, and exit code 2."""

from __future__ import annotations

import json

import pytest

from converters import archive
from models.spec import is_deeper

DEPTHS = [40, 63, 64, 65, 200, 330, 480, 700, 900, 990, 5000]


def nested(depth: int, innermost: str = "0", *, table: bool = False) -> str:
    return '{"a":' * depth + innermost + "}" * depth if table else "[" * depth + innermost + "]" * depth


@pytest.mark.parametrize("depth", [0, 1, 5, 64, 900])
@pytest.mark.parametrize("table", [True, False])
def test_levels_are_counted(depth, table):
    value = json.loads(nested(depth, table=table))
    assert not is_deeper([1, {"x": value}], depth + 2)
    assert depth == 0 or is_deeper([1, {"x": value}], depth + 1)


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_bundle(tmp_path, capsys, depth, table):
    from bench import main

    content = f'{{"format": "deploybench bundle", "project": {nested(depth, table=table)}}}'
    text = f'{{"schema": 1, "sha256": "x", "files": [], "content": {content}}}'
    if depth < 300:  # deeper ones cannot be written in the one form; their reader must not trip over that
        value = json.loads(content)
        text = archive.manifest_bytes(value, []).decode()
    manifest = text.encode()
    with (tmp_path / "deep.tar").open("wb") as file:
        file.write(
            archive.header(archive.MANIFEST, len(manifest)) + manifest + archive.padding(len(manifest))
        )
        file.write(archive.trailer(archive.end_of(len(manifest), [])))
    code = main(["run-bundle", str(tmp_path / "deep.tar"), "-o", str(tmp_path / "records.json")])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.startswith(f"error: {tmp_path / 'deep.tar'}")
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep.tar"]


@pytest.mark.parametrize("depth", DEPTHS)
def test_records(tmp_path, capsys, depth):
    from bench import main

    path, store = tmp_path / "deep.json", tmp_path / "new.db"
    path.write_text(
        '{"format": "deploybench records", "schema": 1, "sha256": "x", "content": '
        f'{{"run": {{"config": {nested(depth, table=True)}}}}}}}'
    )
    assert main(["import", str(path), "--store", str(store)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}")
    assert not store.exists()
