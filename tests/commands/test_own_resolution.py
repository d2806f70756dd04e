"""`--resolution own`: every network at the side that it was designed for."""

from __future__ import annotations

import pytest

from commands import UsageError
from commands.own_resolution import sides_of
from models.timm_input_sizes import input_sizes
from tests.small_onnx import net

SUITE = """
[suites.zoo]
description = "Networks of several sizes, simulated"
backends = ["simulated"]

[[suites.zoo.matrix]]
models = ["timm/resnet18", "nextvit_micro"]
resolutions = [224]

[[suites.zoo.matrix]]
models = ["nextvit_small"]
resolutions = [384]
"""


@pytest.fixture
def zoo(project):
    return project.add(SUITE)


def sides(project, *argv: str) -> list[tuple[str, int]]:
    found = [case["case"]["model"] for case in project.planned("zoo", *argv)]
    return [(model["name"], model["resolution"]) for model in found]


def test_every_network_has_its_own(zoo):
    """Of timm's, as published: EfficientNet-B0 to B3 were designed for 224 to 300, Inception-v3 for 299."""
    argv = ("--model", "timm/tf_efficientnet_b[0-3],timm/inception_v3,nextvit_micro,nextvit_small")
    found = sides(zoo, *argv, "--resolution", "own,64")
    own = [(name, side) for name, side in found if side != 64]
    assert len(own) == len(dict(own)) == len(found) / 2
    assert dict(own) == {
        "timm/tf_efficientnet_b0": 224, "timm/tf_efficientnet_b1": 240, "timm/tf_efficientnet_b2": 260,
        "timm/tf_efficientnet_b3": 300, "timm/inception_v3": 299, "nextvit_micro": 32, "nextvit_small": 224,
    }  # fmt: skip


def test_a_file_keeps_its_shape(zoo):
    path = net(zoo.folder / "my.onnx")
    assert sides(zoo, "--model", str(path), "--resolution", "own") == [("my.onnx", 32)]
    open_ = net(zoo.folder / "open.onnx", side="S")
    answer = zoo.bench("--suite", "zoo", "--model", str(open_), "--resolution", "own")
    assert answer.code == 2
    assert "leaves the side of its image open: name one with --resolution" in answer.err


def test_blocks_have_none(zoo):
    answer = zoo.bench("--suite", "tiny", "--resolution", "own")
    assert answer.code == 2
    assert "nothing in it fits own; it has 14x14x384" in answer.err
    answer = zoo.bench("--suite", "zoo", "--resolution", "owm")
    assert answer.code == 2
    assert "resolution 'owm' is not written like '224'" in answer.err


def test_what_is_no_square_or_not_known_is_told():
    """All of it at once, as a pattern may mean hundreds."""
    assert sides_of({"timm/x": (3, 256, 256)}) == {"timm/x": 256}
    found = input_sizes(["timm/resnet18.none", "timm/no_network", "timm/resnet18.a1_in1k"])
    assert found["timm/resnet18.a1_in1k"] == (3, 224, 224)
    with pytest.raises(UsageError) as refused:
        sides_of({**found, "timm/wide": (3, 768, 1024)})
    _, *told = str(refused.value).splitlines()
    assert told[0].startswith("  timm/resnet18.none: Invalid pretrained tag")
    assert told[1:] == [
        "  timm/no_network: timm has no configuration of it",
        "  timm/wide: was designed for 3x768x1024",
    ]
    with pytest.raises(UsageError, match="and 5 more"):
        sides_of({f"timm/{number}": (3, 1, 2) for number in range(25)})
