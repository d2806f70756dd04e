"""The table of others' figures: complete where it matters, typed, and strict about every row."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import MODELS
from models.paper_names import PAPER_NAMES
from models.paper_sizes import PAPER_SIZES
from models.published import COLUMNS, TABLE, read, rows_of, table, unread
from models.timm_names import timm_names

ROOT = Path(__file__).parents[2]
README = "bytedance/Next-ViT README: "
T4 = "NVIDIA T4, TensorRT 8.0.3 (repo pins 8.0.3.4), fp16, batch 8"


def test_every_row_of_the_table_is_read():
    assert unread() == ()
    assert len(table()) > 900


def test_the_four_tables_of_the_next_vit_readme_are_complete():
    rows = [row for row in table() if row.source.startswith(README)]
    tables = Counter(row.source.removeprefix(README) for row in rows if row.tensorrt)
    assert tables == {
        "Image Classification table": 12,
        "Mask R-CNN table": 6,
        "Semantic FPN 80k table": 6,
        "UperNet 160k table": 6,
    }
    complete = [row for row in rows if row.tensorrt]
    assert all(row.tensorrt.setup == T4 and row.coreml and row.params_m and row.gmacs for row in complete)
    assert {row.model for row in complete} == {"Next-ViT-S", "Next-ViT-B", "Next-ViT-L"}


@pytest.mark.parametrize(
    ("model", "resolution", "tensorrt_ms", "coreml_ms", "top1"),
    [
        ("nextvit_small", 224, 7.7, 3.5, 82.5),
        ("nextvit_base", 224, 10.5, 4.5, 83.2),
        ("nextvit_large", 224, 13.0, 5.5, 83.6),
        ("nextvit_small", 384, 21.6, 8.9, 83.6),
        ("nextvit_base", 384, 29.6, 12.4, 84.3),
        ("nextvit_large", 384, 36.0, 15.2, 84.7),
    ],
)
def test_the_classification_table_is_as_published(model, resolution, tensorrt_ms, coreml_ms, top1):
    (row,) = (
        row
        for row in rows_of(model)
        if row.source == f"{README}Image Classification table"
        and (row.resolution, row.setting) == (resolution, "ImageNet-1K")
    )
    assert (row.tensorrt.ms, row.coreml.ms, row.acc_top1) == (tensorrt_ms, coreml_ms, top1)


def test_every_row_has_a_source_and_a_setting_and_every_latency_its_setup():
    assert len(table()) == 904
    assert all(row.source and row.setting for row in table())
    latencies = [one for row in table() for one in (row.tensorrt, row.coreml) if one]
    assert len(latencies) > 250
    assert all(one.ms > 0 and one.setup for one in latencies)
    assert all("error +-" in row.notes for row in table() if row.digitised)


def test_every_alias_leads_somewhere():
    models = {row.model for row in table()}
    missing = {alias for aliases in PAPER_NAMES.values() for alias in aliases} - models
    assert not missing
    assert set(PAPER_NAMES) <= set(MODELS) | set(timm_names())


def test_the_variants_suite_has_its_published_latencies():
    """Those networks of the suite that the paper's figure or tables give a T4 latency for."""
    found = {
        name
        for name in PAPER_NAMES
        if any(
            row.tensorrt and row.task == "cls" and row.resolution == 224 for row in rows_of(f"timm/{name}")
        )
    }
    assert {"nextvit_small", "resnet101", "convnext_tiny", "twins_svt_small", "pvt_v2_b2"} <= found
    assert "resnet50" not in found  # the paper's figure has no such point for classification


def test_the_rows_of_a_network_have_its_size():
    """A name that led to another network of the family would bring another number of parameters."""
    checked = [
        (size.model, row.params_m, float(size.params_m))
        for size in PAPER_SIZES
        for row in rows_of(size.model)
        if "README" in row.source and row.task == "cls" and row.resolution == size.resolution and row.params_m
    ]
    assert {"RepViT", "FastViT", "MobileOne", "SHViT", "SwiftFormer", "Mobile-Former"} <= {
        rows_of(model)[0].family for model, _, _ in checked
    }
    assert [one for one in checked if one[1] != pytest.approx(one[2], rel=0.04)] == []


def test_a_tag_means_those_weights_alone():
    tagged = {row.model for row in rows_of("timm/resnet50.a1_in1k")}
    assert tagged == {"resnet50.a1_in1k", "resnet50", "ResNet-50"}
    assert {"resnet50.a1_in1k", "resnet50.tv_in1k", "ResNet-50"} <= {
        row.model for row in rows_of("timm/resnet50")
    }
    assert "resnet50.a1_in1k" not in {row.model for row in rows_of("timm/resnet5")}
    assert rows_of("block/ncb") == ()


def line(**changes: str) -> str:
    plain = {"model": "M", "family": "F", "task": "cls", "setting": "ImageNet-1K", "source": "a table"}
    return ",".join({**dict.fromkeys(COLUMNS, ""), **plain, **changes}[column] for column in COLUMNS)


WRONG = {
    "task": ({"task": "clss"}, "line 3: task = 'clss': none of cls, det, seg"),
    "no source": ({"source": ""}, "line 3: source = '': must not be empty"),
    "no setting": ({"setting": " "}, "line 3: setting = ' ': must not be empty"),
    "text for a number": ({"params_m": "5.8M"}, "line 3: params_m = '5.8M': '5.8M' is not a number above 0"),
    "negative": ({"tensorrt_ms": "-7.7", "tensorrt_setup": "T4"}, "tensorrt_ms = '-7.7'"),
    "not a number": ({"gmacs": "nan"}, "gmacs = 'nan'"),
    "infinite": ({"gmacs": "inf"}, "gmacs = 'inf'"),
    "accuracy above 100": ({"acc_top1": "825"}, "acc_top1 = '825': '825' is not a number above 0 up to 100"),
    "latency without setup": ({"tensorrt_ms": "7.7"}, "stand together"),
    "setup without latency": ({"coreml_setup": "iPhone"}, "stand together"),
    "metric without value": ({"metric_name": "a;b", "metric_value": "1"}, "1 values for 2 names"),
    "digits of Python's own": ({"params_m": "31_7"}, "line 3: params_m = '31_7': '31_7' is not a number"),
    "no pixels": ({"resolution": "0"}, "line 3: resolution = '0': a side has 1 to 99999 pixels"),
    "more digits than a number has": ({"resolution": "9" * 5000}, "a side has 1 to 99999 pixels"),
    "quote that does not end": ({"notes": '"never'}, "line 3: unexpected end of data"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=list(WRONG))
def test_a_bad_row_is_named_with_its_line_and_value(tmp_path, changes, message):
    path = tmp_path / "published.csv"
    path.write_text("\n".join([",".join(COLUMNS), line(), line(**changes)]) + "\n")
    found = read(path)
    assert len(found.rows) == 1
    (told,) = found.unread
    assert message in told


def test_the_rows_after_a_bad_one_are_read(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("\n".join([",".join(COLUMNS), line(), "M,F", line(gmacs="many"), line()]) + "\n")
    found = read(path)
    assert [row.line for row in found.rows] == [2, 5]
    assert [text.partition(":")[0] for text in found.unread] == ["line 3", "line 4"]
    assert found.unread[0] == "line 3: 2 values for 16 columns"


def test_a_quote_in_the_middle_leaves_out_its_own_row_alone(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("\n".join([",".join(COLUMNS), line(), '"Next"x,F', line()]) + "\n")
    found = read(path)
    assert [row.line for row in found.rows] == [2, 4]
    assert [text.partition(":")[0] for text in found.unread] == ["line 3"]


@pytest.mark.parametrize("text", ["model,ms\nM,3\n", ""])
def test_other_columns_leave_nothing_to_read(tmp_path, text):
    path = tmp_path / "published.csv"
    path.write_text(text)
    found = read(path)
    assert found.rows == ()
    assert found.unread[0].startswith("line 1: columns are ")


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert read(tmp_path / "none.csv").unread == ("the file cannot be read: No such file or directory",)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    path = tmp_path / "published.csv"
    bad = b"Next-ViT-\xff" + b",x" * 15
    path.write_bytes(b"\n".join([",".join(COLUMNS).encode(), line().encode(), bad, line().encode()]) + b"\n")
    found = read(path)
    assert [row.line for row in found.rows] == [2, 4]
    assert found.unread == ("line 3: model = 'Next-ViT-\\xff': not UTF-8",)


@given(st.sampled_from(COLUMNS), st.text(max_size=40))
def test_any_cell_is_read_or_named(column, text):
    """Whatever stands in one cell, the row is read with it, or refused with its line and the value."""
    row = dict.fromkeys(COLUMNS, "") | {
        "model": "M",
        "family": "F",
        "task": "cls",
        "setting": "S",
        "source": "s",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, (row | {column: text}).values()])
        found = read(path)
    assert len(found.rows) + len(found.unread) == 1
    assert all(said.startswith("line ") for said in found.unread)


def test_reading_the_table_loads_nothing_heavy():
    code = (
        "import sys, models.published as p; p.table();"
        "print([n for n in ('torch', 'pandas', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_takes_the_table_along():
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert TABLE.suffix == ".csv"
    assert "*.csv" in data["models"]
