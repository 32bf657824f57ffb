"""Integers of 8 bits serve where they embed as the backbone does, and are measured to do so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxonomist.training.backbones.added.int8 import agreement, quantise_where_it_holds, sample_size
from taxonomist.training.backbones.added.trial import Trial
from tests.training.conftest import random_images


def test_how_alike_two_backbones_embed() -> None:
    first = np.array([[1, 0], [2, 0.2], [0, 3], [0.3, 1]], np.float32)
    cosine, same = agreement(first, 5 * first)
    assert cosine == pytest.approx(1)
    assert same == 1
    other = first.copy()
    other[3] = [1, 0.3]  # it is nearest to the second now
    cosine, same = agreement(first, other)
    assert cosine == pytest.approx((3 + 0.6 / 1.09) / 4)
    assert same == 0.75
    assert sample_size(160) == 400
    assert sample_size(1024) < 100


def test_with_few_images_it_stays_as_it_is(tmp_path: Path) -> None:
    trial = Trial(32, 48, 1000, 1.0, None)
    images = random_images(99, 32)
    assert quantise_where_it_holds(tmp_path / "backbone.onnx", images, trial, None) == (
        trial,
        "float32: 99 images are too few to quantise it and to compare, 100 are needed",
    )
