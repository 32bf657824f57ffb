"""k-means in numpy, since the server and the worker do without scikit-learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["k_means", "squared_distances"]

_STEPS = 20


def k_means(x: npt.NDArray[np.float32], clusters: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the centres (clusters, d) of images `x` (n, d), after at most 20 steps.

    The first centres are drawn with a probability in proportion to the squared distance to those before (Arthur and
    Vassilvitskii 2007, k-means++, https://dl.acm.org/doi/10.5555/1283383.1283494). A cluster that loses all its images
    keeps its centre. Raises ValueError for fewer images than clusters.
    """
    if not 1 <= clusters <= len(x):
        raise ValueError(f"{clusters} clusters of {len(x)} images")
    centres = x[_first_centres(x, clusters, random)]
    nearest = np.full(len(x), -1)
    for _ in range(_STEPS):
        before, nearest = nearest, squared_distances(x, centres).argmin(axis=1)
        if np.array_equal(before, nearest):
            break
        order = np.argsort(nearest, kind="stable")
        found, starts, counts = np.unique(nearest[order], return_index=True, return_counts=True)
        centres[found] = np.add.reduceat(x[order], starts, axis=0) / counts[:, None]
    return centres


def squared_distances(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the squared distances (n, m) between rows of `x` (n, d) and `y` (m, d)."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * (x @ y.T)
    distances: npt.NDArray[np.float32] = np.maximum(squares, 0.0)
    return distances


def _first_centres(x: npt.NDArray[np.float32], clusters: int, random: np.random.Generator) -> list[int]:
    chosen = [int(random.integers(len(x)))]
    distances = squared_distances(x, x[chosen])[:, 0]
    while len(chosen) < clusters:
        total = float(distances.sum(dtype=np.float64))
        shares = distances / total if total > 0 else np.full(len(x), 1 / len(x))
        row = int(np.searchsorted(np.cumsum(shares, dtype=np.float64), random.random()))
        chosen.append(min(row, len(x) - 1))
        distances = np.minimum(distances, squared_distances(x, x[chosen[-1:]])[:, 0])
    return chosen
