"""The labelled images that a study is made on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.split import Item

Images = npt.NDArray[np.uint8]
"""(n, size, size, 3), red first."""


@dataclass(frozen=True)
class LabelledImages:
    """All labelled images that may be used: n ids, each with its path and its group (a product).

    `images` is (m, size, size, 3), perhaps memory-mapped; `rows` (n,) is the row of each id in it, None means that they
    are in the same order. Images with the same file hash count as one product. `held_out` are products that no
    pre-training has seen: test images are drawn from these only, or from all products when it is empty.

    Raises ValueError when the lengths differ, TrainingError when there are fewer than two labels at level 1.
    """

    ids: Sequence[str]
    images: Images
    paths: Sequence[TaxonomyPath]
    groups: Sequence[str]
    held_out: frozenset[str] = frozenset()
    rows: npt.NDArray[np.int64] | None = None
    hashes: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        images = self.images if self.rows is None else self.rows
        lengths = [len(values) for values in (self.ids, images, self.paths, self.groups)]
        if len(set(lengths)) != 1:
            raise ValueError(f"ids, images, paths and groups differ in length: {lengths}")
        if len({path[0] for path in self.paths}) < 2:
            raise TrainingError(
                f"The {len(self.ids)} labelled images do not have two different labels at level 1.",
                hint="Label images of at least two level-1 choices.",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, position: int) -> Images:
        """Return the image (size, size, 3) of the id at a position."""
        return np.asarray(self.images[position if self.rows is None else self.rows[position]])

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The images as a split sees them, stratified at level 1."""
        hashes = self.hashes or [None] * len(self)
        return tuple(
            Item(id, group, file_hash, path[0])
            for id, group, file_hash, path in zip(self.ids, self.groups, hashes, self.paths, strict=True)
        )

    @cached_property
    def tree(self) -> Tree:
        """The smallest tree that has all paths."""
        return Tree.from_paths("label", self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of ids, in their order, labels, products and held-out products; not of the images."""
        digest = hashlib.sha256()
        for item, path in zip(self.items, self.paths, strict=True):
            digest.update(repr((item, path)).encode())
        digest.update(repr(sorted(self.held_out)).encode())
        return digest.hexdigest()[:16]
