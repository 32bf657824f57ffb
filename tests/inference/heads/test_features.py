"""What a discriminant takes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from taxonomist.inference.heads import features as module
from taxonomist.inference.heads.features import ProductProjection, features

SPACE = ProductProjection(np.array([0.6, 0.2], np.float32), np.array([[3, 0, 0], [0, 1, 2]], np.float32))
X = np.array([[9, -16], [0, 0], [16, 9]], np.float32)  # signed roots of length 1: (.6, -.8), (0, 0), (.8, .6)


def test_signed_roots_have_the_length_1() -> None:
    np.testing.assert_allclose(features(X), np.array([[0.6, -0.8], [0, 0], [0.8, 0.6]]), rtol=1e-6)


def test_in_a_space_they_are_centred_projected_and_scaled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    projected = np.array([[0, -1, -2], [-1.8, -0.2, -0.4], [0.6, 0.4, 0.8]])
    np.testing.assert_allclose(SPACE.of(X), projected, rtol=1e-5, atol=1e-6)
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(features(X, SPACE), expected, rtol=1e-5, atol=1e-6)
