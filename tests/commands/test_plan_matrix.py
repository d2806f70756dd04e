"""Options narrow or replace a suite's matrix, and equal plans have equal digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import UsageError
from commands.config import load
from commands.plan import Overrides, Plan, make

SHIPPED = Path(__file__).parents[2] / "bench.toml"


def plan(suite: str = "blocks", **overrides: tuple[object, ...]) -> Plan:
    return make(load(SHIPPED), suite, Overrides(**overrides), {})


def shapes(of: Plan) -> set[tuple[str, str]]:
    return {(case.model.name, case.model.shape_label) for case in of.cases}


def test_a_model_narrows():
    assert {name for name, _ in shapes(plan(models=("block/ncb",)))} == {"block/ncb"}


def test_a_resolution_narrows_blocks_to_a_stage():
    assert {shape for _, shape in shapes(plan(resolutions=("14",)))} == {"14x14x384"}
    assert {shape for _, shape in shapes(plan(resolutions=("14x14x384",)))} == {"14x14x384"}


def test_a_new_shape_is_added():
    assert ("block/ncb", "28x28x64") in shapes(plan(models=("block/ncb",), resolutions=("28x28x64",)))


def test_a_resolution_replaces_those_of_networks():
    found = shapes(plan("variants", models=("nextvit_small",), resolutions=("256", "384")))
    assert found == {("nextvit_small", "256"), ("nextvit_small", "384")}


def test_a_model_that_the_suite_lacks_is_added_where_it_fits():
    found = plan("variants", models=("timm/resnet18",))
    assert {name for name, _ in shapes(found)} == {"timm/resnet18"}
    with pytest.raises(UsageError, match="has no case left"):
        plan("variants", models=("block/ncb",))


def test_a_side_that_a_network_cannot_take_is_one_refused_case():
    found = plan("variants", models=("fcaformer_l1", "nextvit_small"), resolutions=("256",))
    refused = {case.model.name: found.refused.get(case.id) for case in found.cases}
    assert refused["nextvit_small"] is None
    assert "resolution=256: must be 224: its positions are learned" in str(refused["fcaformer_l1"])
    assert len(found.requests()) == 1


@pytest.mark.parametrize(
    ("models", "resolution", "said"),
    [
        (("fcaformer_l1",), "256", "fcaformer_l1: resolution=256: must be 224"),
        (("fcaformer_l1", "vcmamba_s"), "256", "fcaformer_l1: resolution=256: must be 224"),
        (("nextvit_small", "fcaformer_l1"), "0", "is not written like"),
    ],
)
def test_nothing_but_wrong_sides_is_bad_input(models, resolution, said):
    with pytest.raises(UsageError, match=said):
        plan("variants", models=models, resolutions=(resolution,))


def test_values_make_a_matrix():
    found = plan(
        models=("block/ncb", "block/bottleneck"),
        resolutions=("7",),
        backends=("onnxruntime", "torch"),
        batch_sizes=(1, 8),
        threads=(1, 2),
    )
    assert len(found.cases) == 2 * 2 * 2 * 2
    assert len({case.id for case in found.cases}) == 16


def test_the_digest_follows_what_is_measured_and_how():
    base = plan(resolutions=("7",))
    again = plan(resolutions=("7",))
    assert base.digest("machine", {"torch": "1"}) == again.digest("machine", {"torch": "1"})
    others = [
        plan(resolutions=("14",)).digest("machine", {"torch": "1"}),
        base.digest("another", {"torch": "1"}),
        base.digest("machine", {"torch": "2"}),
        make(load(SHIPPED), "blocks", Overrides(resolutions=("7",)), {"seed": 1}).digest(
            "machine", {"torch": "1"}
        ),
    ]
    assert len({base.digest("machine", {"torch": "1"}), *others}) == 5


def test_a_case_survives_json():
    from models.spec import Case

    for case in plan().cases:
        assert Case.from_dict(case.to_dict()) == case
        assert Case.from_dict(case.to_dict()).id == case.id
