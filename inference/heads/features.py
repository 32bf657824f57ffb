"""From embeddings to what a discriminant takes: signed roots of length 1, or a space that products have taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.groups.projection import ProductScatter

Array = npt.NDArray[np.float32]
_BLOCK = 8192  # embeddings at a time


@dataclass(frozen=True)
class ProductProjection:
    """Embeddings (d,) become `(features - mean) @ matrix`, with `mean` (d,) and `matrix` (d, k)."""

    mean: Array
    matrix: Array

    @classmethod
    def of_scatter(cls, scatter: ProductScatter, matrix: npt.NDArray[np.float64]) -> Self:
        """Return the projection around the mean of the sums. The matrix is scaled, which changes no cosine."""
        largest = max(float(np.abs(matrix).max()), 1e-30)
        return cls((scatter.total / scatter.images).astype(np.float32), (matrix / largest).astype(np.float32))

    def of(self, embeddings: Array) -> Array:
        """Return embeddings (n, d) after the projection, shape (n, k)."""
        found = np.empty((len(embeddings), self.matrix.shape[1]), np.float32)
        for start in range(0, len(embeddings), _BLOCK):
            block = slice(start, start + _BLOCK)
            found[block] = (features(embeddings[block]) - self.mean) @ self.matrix
        return found


def features(embeddings: Array, space: ProductProjection | None = None) -> Array:
    """Return embeddings (n, d) with signed square roots in place of their values, scaled to length 1.

    A few large values then no longer dominate the distances (Perronnin et al. 2010, Improving the Fisher kernel for
    large-scale image classification, section 3.2, https://doi.org/10.1007/978-3-642-15561-1_11). With a `space`, these
    are projected and scaled to length 1 again, shape (n, k).
    """
    if space is not None:
        return _scaled(space.of(embeddings))
    return _scaled(np.sign(embeddings) * np.sqrt(np.abs(embeddings)))


def _scaled(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Array = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return scaled
