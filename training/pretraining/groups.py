"""Groups of images (products, reports) from which positive pairs are drawn, where they leave enough negatives."""

import logging
from dataclasses import replace

import numpy as np

from taxonomist.training.pretraining.batches import RowIndices
from taxonomist.training.pretraining.recipe import Recipe

log = logging.getLogger(__name__)

_LARGEST_SHARE = 0.5
"""Share of the images that one group may have. Keys of the query's own group are no negatives: of the keys in the queue
at least half push a query away, and the loss cannot become zero."""


def with_usable_groups(recipe: Recipe, groups: RowIndices | None) -> tuple[Recipe, RowIndices | None]:
    """Return recipe and groups (n,) as they are used: with one group for most images, positives are of one image.

    With images of one group only, no key in the queue would be a negative, and the loss would be exactly zero. The
    change is logged before the training begins.
    """
    if recipe.positives != "group" or groups is None or not len(groups):
        return recipe, groups
    sizes = np.bincount(groups[groups >= 0]) if (groups >= 0).any() else np.zeros(1, np.int64)
    largest = int(sizes.max())
    if largest <= _LARGEST_SHARE * len(groups):
        return recipe, groups
    log.warning(
        "%d of %d images are of one product or report: positive pairs are two views of one image instead, since images "
        "of one product are not told apart",
        largest,
        len(groups),
    )
    return replace(recipe, positives="image"), None
