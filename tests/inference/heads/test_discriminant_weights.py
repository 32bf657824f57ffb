"""The file of a discriminant: its numbers, and files that are not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.head import load_head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.tree import Tree

TREE = Tree.from_paths("colour", [("red", "dark"), ("red", "light"), ("blue",)])  # blue, red, red/dark, red/light
PARENTS = np.asarray(TREE.parents, np.int64)
ONE = Discriminant(
    weight=np.array([[1, 0], [0, 1]], np.float32),
    bias=np.array([0, 1], np.float32),
    nodes=np.array([0, 2]),
    parents=PARENTS,
)
HEAD = DiscriminantHead({"colour": ONE})


def test_probabilities_worked_out_by_hand() -> None:
    # The features of (9, -16) are (.6, -.8), so the scores are .6 and -.8 + 1 = .2.
    found = HEAD.log_probabilities(np.array([[9, -16]], np.float32), {"colour": TREE}, {"colour": 99.0})["colour"]
    red = np.exp(0.2) / (np.exp(0.2) + np.exp(0.6))
    np.testing.assert_allclose(np.exp(found), [[1 - red, red, red, 0]], rtol=1e-5)


def test_a_file_gives_the_same_head(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    HEAD.save(path)
    loaded = load_head(path)
    assert isinstance(loaded, DiscriminantHead)
    assert loaded.dimension == 2
    for name in ("weight", "bias", "nodes", "parents"):
        np.testing.assert_array_equal(getattr(loaded.discriminants["colour"], name), getattr(ONE, name))
    contents = path.read_bytes()
    HEAD.save(path)
    assert path.read_bytes() == contents


def test_a_release_without_discriminants_refuses_the_file(tmp_path: Path) -> None:
    HEAD.save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="not a readable head"):
        HeadWeights.load(tmp_path / "head.safetensors")


def test_another_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="colour is not the one"):
        HEAD.log_probabilities(np.ones((1, 2), np.float32), {"colour": Tree.from_paths("colour", [("a",), ("b",)])}, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": np.zeros(3, np.float32)},
        {"weight": np.zeros(2, np.float32)},
        {"nodes": np.array([0, 4])},
        {"nodes": np.array([-1, 2])},
        {"parents": np.array([3, -1, 1, 1])},  # a parent comes before its children
        {"weight": np.zeros((0, 2), np.float32), "bias": np.zeros(0, np.float32), "nodes": np.zeros(0, np.int64)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    DiscriminantHead({"colour": replace(ONE, **changes)}).save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="do not fit together"):
        load_head(tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "controls": []}', "formats up to 1"),
        ('{"format": 1, "controls": []}', "do not fit together"),
        ('{"format": 1, "controls": ["colour"]}', "not a readable head"),
        ("[]", "not a readable head"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, text: str, message: str) -> None:
    save_file({"x": np.zeros(1)}, tmp_path / "head.safetensors", metadata={"discriminant": text})
    with pytest.raises(DamagedError, match=message):
        load_head(tmp_path / "head.safetensors")


def test_a_missing_file_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="not a readable head"):
        load_head(tmp_path / "head.safetensors")
