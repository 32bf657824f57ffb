"""The file of an ensemble: its numbers, and files that are not one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxonomist.inference.heads.discriminant_weights import DiscriminantHead
from taxonomist.inference.heads.ensemble_weights import EnsembleHead
from taxonomist.inference.heads.features import ProductProjection
from taxonomist.inference.heads.head import load_head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.errors import DamagedError
from tests.inference.heads.test_discriminant_weights import HEAD as DISCRIMINANT
from tests.inference.heads.test_discriminant_weights import TREE

LAYERS = HeadWeights(
    mean=np.zeros(2, np.float32),
    scale=np.ones(2, np.float32),
    weight1=np.zeros((1, 2), np.float32),
    bias1=np.zeros(1, np.float32),
    weight2=np.zeros((4, 1), np.float32),
    bias2=np.log(np.array([1, 3, 1, 1], np.float32)),
    controls=(("colour", 4),),
)
THREE = np.ones((1, 3), np.float32)
HEAD = EnsembleHead(LAYERS, DISCRIMINANT)


def test_probabilities_worked_out_by_hand() -> None:
    # Two layers: blue 1/4, red 3/4, red/dark and red/light 3/8 each. The discriminant has not learned of red/light; its
    # scores of blue and red/dark are .6 and .2.
    found = HEAD.log_probabilities(np.array([[9, -16]], np.float32), {"colour": TREE}, {"colour": 99.0})["colour"]
    red = np.exp(0.2) / (np.exp(0.2) + np.exp(0.6))
    expected = [[(1 / 4 + 1 - red) / 2, (3 / 4 + red) / 2, (3 / 8 + red) / 2, 0]]
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)


@pytest.mark.parametrize("space", [None, ProductProjection(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))])
def test_a_file_gives_the_same_head(tmp_path: Path, space: ProductProjection | None) -> None:
    path = tmp_path / "head.safetensors"
    discriminant = replace(DISCRIMINANT.discriminants["colour"], space=space)
    EnsembleHead(LAYERS, DiscriminantHead({"colour": discriminant})).save(path)
    contents = path.read_bytes()
    loaded = load_head(path)
    assert isinstance(loaded, EnsembleHead)
    assert loaded.dimension == 2
    assert (loaded.discriminant.discriminants["colour"].space is None) == (space is None)
    loaded.save(path)
    assert path.read_bytes() == contents


def test_a_release_without_ensembles_refuses_the_file(tmp_path: Path) -> None:
    HEAD.save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="not a readable head"):
        HeadWeights.load(tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    "layers",
    [
        replace(LAYERS, controls=(("shape", 4),)),
        replace(LAYERS, mean=np.zeros(3, np.float32)),
        replace(LAYERS, mean=THREE[0], scale=THREE[0], weight1=THREE),
    ],
)
def test_heads_that_do_not_fit_are_refused(tmp_path: Path, layers: HeadWeights) -> None:
    EnsembleHead(layers, DISCRIMINANT).save(tmp_path / "head.safetensors")
    with pytest.raises(DamagedError, match="do not fit together"):
        load_head(tmp_path / "head.safetensors")
