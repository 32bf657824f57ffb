"""A projection of embeddings, in closed form, from images whose products are known. It needs no labels.

Images of one product differ by what does not matter: light, angle, background. Their covariance *within products* says
in which directions. Directions in which they differ a lot count less after the projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProductScatter:
    """Sums over images of products with at least two images; batches of whole products are added up.

    `within` (d, d) is the scatter around the means of the products, `between` (d, d) that of these means around zero,
    each counted as often as the product has images; `total` (d,) is the sum over all images.
    """

    within: Double
    between: Double
    total: Double
    images: int
    products: int

    @classmethod
    def of(cls, features: Array, products: Sequence[str] | npt.NDArray[np.str_]) -> ProductScatter:
        """Return the sums of features (n, d) of images of `products` (n). All known images of a product belong in one
        call; a product with one image is left out."""
        _, owners, sizes = np.unique(np.asarray(products), return_inverse=True, return_counts=True)
        several = sizes[owners] > 1
        x = features[several].astype(np.float64)
        _, owners, sizes = np.unique(owners[several], return_inverse=True, return_counts=True)
        sums = np.zeros((len(sizes), features.shape[1]))
        np.add.at(sums, owners, x)
        roots = sums / np.sqrt(sizes)[:, None]
        between = roots.T @ roots
        return cls(x.T @ x - between, between, x.sum(axis=0), len(x), len(sizes))

    def __add__(self, other: ProductScatter) -> ProductScatter:
        """Return the sums over the images of both."""
        return ProductScatter(
            self.within + other.within,
            self.between + other.between,
            self.total + other.total,
            self.images + other.images,
            self.products + other.products,
        )

    def __sub__(self, other: ProductScatter) -> ProductScatter:
        """Return the sums without those of some of the products."""
        return ProductScatter(
            self.within - other.within,
            self.between - other.between,
            self.total - other.total,
            self.images - other.images,
            self.products - other.products,
        )


def whitening(scatter: ProductScatter, shrinkage: float = 0.5) -> Double:
    """Return the matrix (d, d) after which images of one product differ equally in all directions.

    It is the inverse root of the covariance within products (Hariharan et al. 2012, Discriminative decorrelation for
    clustering and classification, https://doi.org/10.1007/978-3-642-33765-9_33), of which the share `shrinkage` is
    taken by a multiple of the identity with the same trace.
    """
    values, vectors = np.linalg.eigh(_covariance(scatter, shrinkage))
    root: Double = (vectors / np.sqrt(values)) @ vectors.T
    return root


def discriminants(scatter: ProductScatter, dimension: int, shrinkage: float = 0.5) -> Double:
    """Return the matrix (d, dimension) of the directions in which products differ most, relative to their images.

    This is linear discriminant analysis with products as classes (Fisher 1936,
    https://doi.org/10.1111/j.1469-1809.1936.tb02137.x): once images of one product differ equally in all directions, as
    after `whitening`, the main directions of the products' means. The first direction comes first, so that the
    beginning of a matrix is one with fewer dimensions.
    """
    root = np.linalg.inv(np.linalg.cholesky(_covariance(scatter, shrinkage)))  # faster than the symmetric one
    mean = scatter.total / scatter.images
    means = root @ (scatter.between - scatter.images * np.outer(mean, mean)) @ root.T
    _, directions = np.linalg.eigh(means)  # in ascending order
    matrix: Double = root.T @ directions[:, ::-1][:, :dimension].copy()  # without the copy, it is 70 times slower
    return matrix


def _covariance(scatter: ProductScatter, shrinkage: float) -> Double:
    """Return the covariance within products (d, d), shrunk to the identity."""
    dimension = len(scatter.within)
    covariance = scatter.within / (scatter.images - scatter.products)
    covariance *= 1 - shrinkage
    covariance.flat[:: dimension + 1] += max(shrinkage / (1 - shrinkage) * np.trace(covariance) / dimension, 1e-12)
    return covariance
