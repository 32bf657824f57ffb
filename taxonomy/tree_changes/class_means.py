"""Which node's images look most like those of another one: by the mean of their embeddings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.paths import TaxonomyPath

LEAST = 3
"""Images that a mean needs to say anything."""

_Key = TypeVar("_Key")


@dataclass
class Means:
    """Sums of unit embeddings (d) by node, and the number of each."""

    sums: dict[Any, npt.NDArray[np.float64]] = field(default_factory=dict)
    counts: dict[Any, int] = field(default_factory=dict)

    def add(self, key: Any, vectors: npt.NDArray[Any]) -> None:
        """Add the embeddings (n, d) of images of a node. A vector of zeros is left out."""
        rows = vectors.astype(np.float64)
        length = np.linalg.norm(rows, axis=1)
        rows = rows[length > 0] / length[length > 0, None]
        if len(rows):
            self.sums[key] = self.sums.get(key, 0.0) + rows.sum(axis=0)
            self.counts[key] = self.counts.get(key, 0) + len(rows)

    def directions(self, keys: Iterable[_Key]) -> dict[_Key, npt.NDArray[np.float64]]:
        """Return the mean directions (d), of length 1, of those of the keys that have `LEAST` images."""
        found = {}
        for key in keys:
            if self.counts.get(key, 0) >= LEAST and (length := np.linalg.norm(self.sums[key])) > 0:
                found[key] = self.sums[key] / length
        return found


def most_alike(
    gone: Mapping[_Key, npt.NDArray[np.float64]], nodes: Mapping[TaxonomyPath, npt.NDArray[np.float64]]
) -> dict[_Key, TaxonomyPath]:
    """Return for each mean direction (d) in `gone` the node whose mean has the largest cosine with it."""
    if not nodes:
        return {}
    paths = list(nodes)
    matrix = np.stack([nodes[path] for path in paths])
    return {key: paths[int(np.argmax(matrix @ direction))] for key, direction in gone.items()}
