"""The space of a project's look-alikes: learned from which images show one product, kept where it helps other products.

`benchmarks.projection` compares it with other spaces.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.features import Array
from taxonomist.inference.look_alike_projection import LookAlikeProjection
from taxonomist.inference.neighbours import search
from taxonomist.storage.registry.manifests import LookAlikeFigures
from taxonomist.taxonomy.groups.projection import ProductScatter, discriminants
from taxonomist.training.clear_gain import is_clear_gain, mean_by_product
from taxonomist.training.product_space import FEWEST_PRODUCTS

DIMENSION = 256


Labels = Sequence[Collection[tuple[str, ...]]]
"""The nodes of each image: its accepted paths and all their beginnings, after the control. Empty without a label."""


@dataclass(frozen=True)
class ProductVectors:
    """Embeddings (n, d) of images, the product and the labels of each."""

    embeddings: Array
    products: Sequence[str]
    labels: Labels


@dataclass(frozen=True)
class LearnedLookAlikes:
    """The figures of a projection, and the projection where they speak for it."""

    figures: LookAlikeFigures
    projection: LookAlikeProjection | None


def fit_look_alikes(
    scatter: ProductScatter | None, held_out: ProductVectors, labelled: ProductVectors
) -> LearnedLookAlikes | None:
    """Return the projection learned from the sums over products, as far as products that are held out speak for it.

    `held_out` are images of other products, `labelled` those among which look-alikes are searched; none of these shows
    a product that is held out. None where there are fewer than `FEWEST_PRODUCTS` that teach, that are held out and have
    two images or more, or that are held out and have a labelled image.
    """
    return judged(LearnedSpace.of(scatter), held_out, labelled) if _are_enough(held_out, labelled) else None


@dataclass(frozen=True)
class LearnedSpace:
    """A projection, and how many products and images have taught it."""

    projection: LookAlikeProjection
    products: int
    images: int

    @classmethod
    def of(cls, scatter: ProductScatter | None) -> LearnedSpace | None:
        """Return what products teach; None where there are too few."""
        if scatter is None or scatter.products < FEWEST_PRODUCTS:
            return None
        matrix = discriminants(scatter, min(DIMENSION, scatter.products - 1))
        return cls(LookAlikeProjection.of_scatter(scatter, matrix), scatter.products, scatter.images)


def judged(space: LearnedSpace | None, held_out: ProductVectors, labelled: ProductVectors) -> LearnedLookAlikes | None:
    """Return the figures of a space, which is kept if both are true, and each held-out product counts once:

    - The nearest held-out image shows the same product more often, by more than chance would explain.
    - The nearest labelled image has as much of an image's label as it has without the projection, or more.
    """
    if space is None:
        return None
    products, several, named = _judges(held_out)
    own_labels = [held_out.labels[row] for row in named]
    same_product, same_labels = [], []
    for x, others in (
        (held_out.embeddings, labelled.embeddings),
        (space.projection.of(held_out.embeddings), space.projection.of(labelled.embeddings)),
    ):
        found = _same_product(x[several], products[several])
        same_product.append(mean_by_product(found, products[several]))
        found = _same_labels(x[named], own_labels, others, labelled.labels)
        same_labels.append(mean_by_product(found, products[named]))
    gain = same_product[1] - same_product[0]
    is_gain = is_clear_gain(gain)
    is_loss = bool(same_labels[1].mean() < same_labels[0].mean())
    figures = LookAlikeFigures(
        served=is_gain and not is_loss,
        products=space.products,
        images=space.images,
        held_out=len(gain),
        same_product=(float(same_product[0].mean()), float(same_product[1].mean())),
        same_labels=(float(same_labels[0].mean()), float(same_labels[1].mean())),
    )
    return LearnedLookAlikes(figures, space.projection if figures.served else None)


def _judges(held_out: ProductVectors) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the product of each image, the rows of products with several images, and those of images with labels."""
    products = np.asarray(held_out.products, dtype=object).astype(str)
    _, owners, sizes = np.unique(products, return_inverse=True, return_counts=True)
    named = [row for row, nodes in enumerate(held_out.labels) if nodes]
    return products, np.flatnonzero(sizes[owners] > 1), np.array(named, np.int64)


def _are_enough(held_out: ProductVectors, labelled: ProductVectors) -> bool:
    products, *judges = _judges(held_out)
    fewest = min(len(np.unique(products[rows])) for rows in judges)
    return fewest >= FEWEST_PRODUCTS and any(labelled.labels)


def _same_product(x: Array, products: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Return for each of n images whether the nearest other one shows its product."""
    rows, _ = search(x, x, 2)
    nearest = np.where(rows[:, 0] == np.arange(len(x)), rows[:, 1], rows[:, 0])
    same: npt.NDArray[np.float64] = (products[nearest] == products).astype(np.float64)
    return same


def _same_labels(x: Array, wanted: Labels, others: Array, labels: Labels) -> npt.NDArray[np.float64]:
    """Return for each of n images the share of its nodes that the nearest of the others has, too."""
    rows, _ = search(x, others, 1)
    pairs = zip(wanted, rows[:, 0].tolist(), strict=True)
    return np.array([len(set(own) & set(labels[row])) / len(own) for own, row in pairs])
