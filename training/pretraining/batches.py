"""Which images a step sees: a function of the seed and the step alone, so that a run can resume at any step."""

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taxonomist.training.pretraining.recipe import Recipe

log = logging.getLogger(__name__)

RowIndices = npt.NDArray[np.int64]
"""(n,): rows of an array."""

_CHUNK = 4096  # images that are copied at once
_LARGEST_SHARE = 0.5
"""Share of the images that one group may have. Keys of the query's own group are no negatives: of the keys in the queue
at least half push a query away, and the loss cannot become zero."""


def with_usable_groups(recipe: Recipe, groups: RowIndices | None) -> tuple[Recipe, RowIndices | None]:
    """Return recipe and groups (n,) as they are used: with one group for most images, positives are of one image.

    With images of one group only, no key in the queue would be a negative, and the loss would be exactly zero. The
    change is logged before the training begins.
    """
    if recipe.positives == "image" or groups is None or not len(groups):
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


class BatchSchedule:
    """`count` images in an order drawn anew for each epoch, cut into batches.

    The remainder that is too small for a batch is left out, other images in each epoch. With `groups` (count,) the key
    shows an image of the same group as the query, and in `same_image` of the cases the same image; -1 stands for no
    group. Each of `world_size` devices sees a part of every batch; the parts in order of `rank` are the batch.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        groups: RowIndices | None = None,
        *,
        same_image: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.steps_per_epoch = max(1, count // batch)
        self._count, self._batch, self._seed, self._groups = count, batch, seed, groups
        self._same_image, self._rank, self._world_size = same_image, rank, world_size
        self._epoch = -1
        self._order: RowIndices = np.arange(0)  # (count,): that of the epoch
        self._by_group: RowIndices = np.arange(0) if groups is None else np.argsort(groups, kind="stable")

    def rows(self, step: int) -> tuple[RowIndices, RowIndices]:
        """Return the rows of the images of a step, of the queries and of the keys, each (batch / world_size,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        queries = self._order[position * self._batch : (position + 1) * self._batch]
        keys = self._partners(queries, np.random.default_rng([self._seed, epoch, position]))
        size = len(queries) // self._world_size
        part = slice(self._rank * size, (self._rank + 1) * size)
        return (queries[part], keys[part]) if keys is not queries else (queries[part],) * 2

    def ids(self, rows: RowIndices) -> RowIndices:
        """Return what each of the images shows (n,): the number of its group, or one of its own without a group."""
        if self._groups is None:
            return rows
        groups = self._groups[rows]
        return np.where(groups >= 0, groups, self._groups.max() + 1 + rows)

    def _partners(self, rows: RowIndices, random: np.random.Generator) -> RowIndices:
        """Return an image of the same group for each row, drawn at random; in some cases the image itself."""
        if self._groups is None:
            return rows
        wanted = self._groups[rows]
        sorted_groups = self._groups[self._by_group]
        first = np.searchsorted(sorted_groups, wanted, side="left")
        end = np.searchsorted(sorted_groups, wanted, side="right")
        drawn = self._by_group[first + (random.random(len(rows)) * (end - first)).astype(np.int64)]
        grouped = wanted >= 0
        if self._same_image:
            grouped &= random.random(len(rows)) >= self._same_image
        return np.where(grouped, drawn, rows)


class ImageSelection:
    """Some `rows` (n,) of images uint8 (m, s, s, 3), which may be a file larger than memory; None stands for all."""

    def __init__(self, images: npt.NDArray[np.uint8], rows: RowIndices | None = None) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    @property
    def nbytes(self) -> int:
        return len(self) * self.images[:1].nbytes

    def take(self, positions: RowIndices | int) -> npt.NDArray[np.uint8]:
        """Return the images at these positions of the selection, in memory."""
        return np.asarray(self.images[positions if self.rows is None else self.rows[positions]])

    def on(self, device: torch.device) -> Tensor:
        """Return all images on a device, uint8 (n, s, s, 3)."""
        images = torch.empty((len(self), *self.images.shape[1:]), dtype=torch.uint8, device=device)
        for start in range(0, len(self), _CHUNK):
            positions = np.arange(start, min(start + _CHUNK, len(self)))
            images[start : start + _CHUNK] = torch.from_numpy(self.take(positions))
        return images
