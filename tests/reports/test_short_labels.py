"""Shortened labels: they fit, and no two different ones become one."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.short_labels import shortened

SMALL = "nextvit_small weights=sha256:"


@pytest.mark.parametrize(
    ("labels", "longest", "texts"),
    [
        (["ncb", "a" * 26], 26, ["ncb", "a" * 26]),
        (["swin_tiny_patch4_window7_224"], 18, ["swin_tiny_patch4_…"]),
        (
            [f"{SMALL}0a1b2c3d4e5f", f"{SMALL}77aa99cc00dd"],
            26,
            ["nextvit_small…0a1b2c3d4e5f", "nextvit_small…77aa99cc00dd"],
        ),
        ([f"{SMALL}0a1b2c3d4e5f", f"{SMALL}77aa99cc00dd"], 18, ["nextvi…0a1b2c3d4e…", "nextvi…77aa99cc00…"]),
        (
            ["nextvit_small weights=random:0", f"{SMALL}0a1b2c3d4e5f"],
            26,
            ["nextvit_small weights=ran…", "nextvit_small weights=sha…"],
        ),
        (
            ["nextvit_small num_classes=10 x=1", "nextvit_small num_classes=100 x=1"],
            24,
            ["nextvit_small num…10 x=1", "nextvit_small nu…100 x=1"],
        ),
        (["x" * 40 + "a", "x" * 40 + "b"], 10, ["xxxxxxxx…a", "xxxxxxxx…b"]),
    ],
)
def test_labels(labels, longest, texts):
    assert shortened(labels, longest) == texts


def test_what_differs_far_apart_is_told_apart_in_its_own_place():
    labels = [f"{SMALL}{one} num_classes={n}" for one, n in (("0a1b", 10), ("0a1b", 100), ("77aa", 10))]
    found = shortened(labels, 20)
    assert len(set(found)) == 3
    assert "10" in found[0]
    assert "100" in found[1]
    assert "77aa" in found[2]


def test_what_another_label_is_called_is_numbered():
    labels = ["x" * 40 + "a", "x" * 40 + "b", "xxxxxxxx…a"]
    assert shortened(labels, 10) == ["xxxxxxxx…2", "xxxxxxxx…b", "xxxxxxxx…a"]


WORDS = st.text(st.sampled_from(string.ascii_lowercase[:3] + "=:_ …2"), max_size=30)


@given(st.lists(WORDS, max_size=12), st.integers(8, 24))
def test_they_fit_and_stay_apart(labels, longest):
    found = shortened(labels, longest)
    assert all(len(text) <= longest for text in found)
    by_label = dict(zip(labels, found, strict=True))
    assert len(set(by_label.values())) == len(by_label)
    assert [by_label[label] for label in labels] == found
    assert all(text == label for label, text in by_label.items() if len(label) <= longest)
