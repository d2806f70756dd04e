"""Build options of a Core ML conversion, read and refused without a toolchain."""

from __future__ import annotations

import dataclasses
import sys

import pytest

import converters
from converters.artifact import ConversionError, ConversionRequest
from converters.mlpackage_compress import COMPRESSIONS
from converters.mlpackage_options import PackageOptions, read
from models.spec import PRECISIONS, WEIGHT_PRECISIONS, ModelSpec, Option, sorted_options

REQUEST = ConversionRequest(ModelSpec.of("nextvit_small"), "mlpackage", precision="fp16")


def asked(*, precision: str = "fp16", batch_size: int = 1, **build: Option) -> ConversionRequest:
    return dataclasses.replace(
        REQUEST, precision=precision, batch_size=batch_size, build=sorted_options(build)
    )


def test_defaults() -> None:
    assert read(REQUEST) == PackageOptions("iOS16", "tensor", "ane", 0, ())


def test_what_is_asked_for_is_read() -> None:
    options = read(asked(minimum_deployment_target="iOS18", layout="plain", resolutions="256+192"))
    assert options == PackageOptions("iOS18", "tensor", "plain", 0, (192, 224, 256))
    assert read(asked(max_batch=8)).max_batch == 8
    assert read(asked(resolutions=192)).sides == (192, 224)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asked(layot="ane"), "no option 'layot': did you mean layout"),
        (asked(layout="nhwc"), "layout=nhwc: ane or plain is wanted"),
        (asked(minimum_deployment_target="iOS14"), "iOS15 or iOS16 or iOS17 or iOS18"),
        (asked(input_type="image", max_batch=2), "one image at a time"),
        (asked(input_type="image", batch_size=2), "one image at a time"),
        (asked(max_batch=1), "max_batch=1: a whole number from 2"),
        (asked(max_batch=3, batch_size=4), "max_batch=3: a whole number from 4"),
        (asked(max_batch=True), "max_batch=True"),
        (asked(resolutions="192x256"), "whole numbers with"),
        (asked(resolutions=True), "whole numbers with"),
        (asked(resolutions="224"), "1 to 127 sides beside 224"),
        (asked(resolutions="99999"), "of at most 16384"),
        (asked(resolutions="192", max_batch=4), "choose one"),
        (asked(precision="fp16-pal4", minimum_deployment_target="iOS15"), "iOS16 or later, not iOS15"),
        (asked(precision="bf16"), "mlpackage cannot be made in bf16"),
        (asked(precision="int8"), "mlpackage cannot be made in int8"),
        (dataclasses.replace(REQUEST, target="sm89"), "made for no GPU"),
        (
            dataclasses.replace(
                asked(input_type="image"), model=ModelSpec.of("block/ncb", resolution=7, in_channels=32)
            ),
            "32 channels, no RGB image",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(request_: ConversionRequest, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        converters.check(request_)
    assert caught.value.failure.kind == "bad_input"


def test_the_tables_of_compressed_precisions_agree() -> None:
    assert tuple(COMPRESSIONS) == WEIGHT_PRECISIONS
    assert converters.PRECISIONS["mlpackage"] == ("fp32", "fp16", *COMPRESSIONS)
    assert set(COMPRESSIONS) < set(PRECISIONS)


def test_checking_loads_no_toolchain() -> None:
    import subprocess

    code = (
        "import sys, converters\n"
        "from converters.artifact import ConversionRequest\n"
        "from models.spec import ModelSpec\n"
        "converters.check(ConversionRequest(ModelSpec.of('nextvit_small'), 'mlpackage', precision='fp16'))\n"
        "print([n for n in ('torch', 'coremltools') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
