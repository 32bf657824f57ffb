"""The file of a discriminant: its numbers, and files that are not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from taxonomist.inference.heads import discriminant_weights
from taxonomist.inference.heads.discriminant_weights import Discriminant, DiscriminantHead
from taxonomist.inference.heads.features import ProductProjection
from taxonomist.inference.heads.head import load_head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.errors import DamagedError, NewerFormatError
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
SPACE = ProductProjection(np.array([0.6, 0.2, 0], np.float32), np.array([[3, 0], [0, 1], [1, 1]], np.float32))
INSIDE = DiscriminantHead({"colour": replace(ONE, space=SPACE)})


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


def test_in_a_space_probabilities_worked_out_by_hand() -> None:
    # The features of (9, -16, 0) are (.6, -.8, 0), after the projection (0, -1), of length 1: the scores are 0 and 0.
    found = INSIDE.log_probabilities(np.array([[9, -16, 0]], np.float32), {"colour": TREE}, {})["colour"]
    np.testing.assert_allclose(np.exp(found), [[0.5, 0.5, 0.5, 0]], rtol=1e-5)


def test_a_file_gives_the_space_of_those_controls_that_have_it(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    plain = replace(ONE, weight=np.ones((2, 3), np.float32))
    DiscriminantHead({"plain": plain, "colour": replace(ONE, space=SPACE)}).save(path)
    contents = path.read_bytes()
    loaded = load_head(path)
    assert isinstance(loaded, DiscriminantHead)
    assert loaded.dimension == 3
    assert loaded.discriminants["plain"].space is None
    space = loaded.discriminants["colour"].space
    assert space is not None
    np.testing.assert_array_equal(space.mean, SPACE.mean)
    np.testing.assert_array_equal(space.matrix, SPACE.matrix)
    loaded.save(path)
    assert path.read_bytes() == contents


def test_a_release_without_spaces_refuses_a_head_with_one_and_reads_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discriminant_weights, "NEWEST_FORMAT", 1)
    path = tmp_path / "head.safetensors"
    HEAD.save(path)
    assert load_head(path).dimension == 2
    INSIDE.save(path)
    with pytest.raises(NewerFormatError, match="has format 2; this release reads formats up to 1"):
        load_head(path)


@pytest.mark.parametrize(
    "space",
    [
        ProductProjection(SPACE.mean[:2], SPACE.matrix),
        ProductProjection(SPACE.mean, SPACE.matrix[:, :1]),
        ProductProjection(SPACE.matrix, SPACE.matrix),
        ProductProjection(SPACE.mean, SPACE.mean),
    ],
)
def test_a_space_that_does_not_fit_is_refused(tmp_path: Path, space: ProductProjection) -> None:
    DiscriminantHead({"colour": replace(ONE, space=space)}).save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="do not fit together"):
        load_head(tmp_path / "head.safetensors")


def test_embeddings_of_two_lengths_are_refused(tmp_path: Path) -> None:
    DiscriminantHead({"plain": ONE, "colour": replace(ONE, space=SPACE)}).save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="do not fit together"):
        load_head(tmp_path / "head.safetensors")


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
        ('{"format": 3, "controls": []}', "formats up to 2"),
        ('{"format": 2, "controls": ["colour"], "space": ["colour"]}', "not a readable head"),
        ('{"format": 2, "controls": ["colour"], "space": 1}', "not a readable head"),
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
