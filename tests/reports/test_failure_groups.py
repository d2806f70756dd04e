"""Failures by cause: what is told together, what alone, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.spec import Case, ModelSpec
from reports.failure_groups import grouped
from reports.records import CaseResult
from runners.measurement import Failure


def failed(name: str, message: str, kind: str = "conversion") -> CaseResult:
    case = Case(ModelSpec(name, 224), "onnxruntime")
    return CaseResult(case, failure=Failure(kind, message, "Do something else."))


SIDE = (
    "eager: {0}: resolution=224: no forward pass for input (1, 3, 224, 224):"
    " Input height (224) doesn't match model ({1})."
)


def test_networks_of_another_resolution_are_one_line_each_side():
    results = [failed(f"timm/net{n}", SIDE.format(f"timm/net{n}", 256)) for n in range(12)]
    results += [failed(f"timm/vit{n}", SIDE.format(f"timm/vit{n}", 384)) for n in range(3)]
    results.append(failed("timm/odd", "crashed: signal 11"))
    wide, narrow, odd = grouped(results)
    assert wide.title == "12 networks: needs resolution 256"
    assert wide.names.endswith("and 4 more")
    assert narrow.title == "3 networks: needs resolution 384"
    assert odd.is_single
    assert odd.cause == "crashed: signal 11"


def test_what_differs_between_cases_does_not_part_them():
    results = [
        failed(name, f"{name}: node '/blocks.{n}/Add' at 0x7f00{n} takes {n} and {n + 1.5}")
        for n, name in enumerate(("timm/a", "timm/b", "timm/c"))
    ]
    (group,) = grouped(results)
    assert group.title == "3 networks: it: node … at … takes # and #"
    assert group.names == "timm/a, timm/b and timm/c"


def test_two_of_a_kind_stay_alone_and_kinds_are_not_mixed():
    two = [failed(f"timm/{n}", "out of memory") for n in range(2)]
    assert [group.is_single for group in grouped(two)] == [True, True]
    mixed = [*two, failed("timm/2", "out of memory", kind="crashed")]
    assert len(grouped(mixed)) == 3


@given(st.lists(st.text(max_size=60), max_size=12))
def test_no_failure_is_lost(messages):
    results = [failed(f"timm/{n}", message) for n, message in enumerate(messages)]
    groups = grouped(results)
    assert sorted(r.case.id for g in groups for r in g.results) == sorted(r.case.id for r in results)
    sizes = [len(group.results) for group in groups]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "mobilevig: resolution=256: must be 224: its positions are learned for that side",
            "needs resolution 224",
        ),
        ("Input image size (224*224) doesn't match model (384*384).", "needs resolution 384"),
    ],
)
def test_libraries_words_for_a_side(message, said):
    (group,) = grouped([failed(f"timm/{n}", message) for n in range(3)])
    assert group.cause == said
