"""The names that are read from source are the names that timm registers, and reading them is cheap."""

from __future__ import annotations

import subprocess
import sys

import timm

from models.timm_names import is_timm_name, timm_names


def test_equal_to_what_timm_lists():
    assert list(timm_names()) == sorted(timm.list_models())


def test_reading_them_imports_neither_timm_nor_torch():
    code = (
        "import sys; from models.timm_names import timm_names; assert len(timm_names()) > 500; "
        "print([name for name in ('timm', 'torch', 'torchvision') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_pretrained_tags_are_allowed():
    assert is_timm_name("resnet50")
    assert is_timm_name("resnet50.a1_in1k")
    assert not is_timm_name("resnet5")
    assert not is_timm_name("")
