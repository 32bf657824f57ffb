"""The images of labelled products that have no labels themselves: the sum of their features, by product."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.features import ProductProjection, features
from taxonomist.storage.embeddings import Embeddings
from taxonomist.training.heads.data.targets import Vectors

MOST_COMPANIONS = 100
"""Images of one product without a label that are used; more of them hardly change the mean."""
_AT_ONCE = 2000


@dataclass(frozen=True)
class Companions:
    """For `groups`, the number of each one's row: `sums` (groups, k) of the features of `counts` (groups,) images.

    The features are those in `space`.
    """

    groups: Mapping[str, int]
    sums: Vectors
    counts: npt.NDArray[np.int64]
    space: ProductProjection | None = None

    def means(self, vectors: Vectors, groups: Sequence[str | None]) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Return for labelled images the mean features (n, k) of all images of their products, and their numbers (n,).

        `vectors` (n, d) are the embeddings of the images, `groups` their products. An image without one is alone.
        """
        means = features(vectors, self.space)
        rows = np.array([self.groups.get(group, -1) if group else -1 for group in groups], np.int64)
        known = np.flatnonzero(rows >= 0)
        sums, counts = self.sums.copy(), self.counts.copy()
        np.add.at(sums, rows[known], means[known])
        np.add.at(counts, rows[known], 1)
        sizes = np.ones(len(rows), np.int64)
        sizes[known] = counts[rows[known]]
        means[known] = sums[rows[known]] / counts[rows[known], None]
        return means, sizes


def read_companions(
    images: Mapping[str, Sequence[str]],
    groups: Collection[str],
    embeddings: Embeddings,
    spaces: Sequence[ProductProjection] = (),
) -> tuple[Companions, ...]:
    """Return the companions of the products `groups`, () without any; `images` has the ids by product.

    Those with the features of the embeddings as they are come first, then those in each of the `spaces`.

    An image without an embedding is left out, and so is what exceeds `MOST_COMPANIONS` of a product. Embeddings are
    read in pages, so memory grows with the products and not with the images.
    """
    numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
    wanted = [
        (image, row) for group, row in numbers.items() for image in sorted(images.get(group, ()))[:MOST_COMPANIONS]
    ]
    every: tuple[ProductProjection | None, ...] = (None, *spaces)
    sums: list[Vectors] = []
    counts = np.zeros(len(numbers), np.int64)
    for start in range(0, len(wanted), _AT_ONCE):
        page = wanted[start : start + _AT_ONCE]
        found, vectors = embeddings.get([image for image, _ in page])
        rows = np.array([row for _, row in page])[found]
        own = [features(vectors[found], space) for space in every]
        sums = sums or [np.zeros((len(numbers), shown.shape[1]), np.float32) for shown in own]
        for total, shown in zip(sums, own, strict=True):
            np.add.at(total, rows, shown)
        np.add.at(counts, rows, 1)
    return tuple(Companions(numbers, total, counts, space) for total, space in zip(sums, every, strict=False))
