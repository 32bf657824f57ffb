"""TypiClust: the most typical image of each cluster, for projects with few labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.labelling_order.k_means import k_means, squared_distances

__all__ = ["typical_images"]

_NEIGHBOURS = 20  # of an image, within its cluster
_MOST_CLUSTERED = 10_000  # images; of more, a random sample is clustered, and the others join the nearest cluster
_MOST_COMPARED = 2_000  # images of a cluster among which the typical one is looked for


def typical_images(
    x: npt.NDArray[np.float32],
    labelled: npt.NDArray[np.bool_],
    count: int,
    *,
    seed: int = 0,
    among: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """Return at most `count` indices of images without a label, those of the largest clusters first.

    All images `x` (n, d) are divided into as many clusters as there are labels and images to choose. From each cluster
    without a label comes the image with the least mean distance to its 20 nearest neighbours in the cluster, of those
    `among` (n,) which it may choose. So there are fewer than `count` where labels share clusters (Hacohen et al. 2022,
    Active learning on a budget, algorithm 1, https://arxiv.org/abs/2202.02794).
    """
    random = np.random.default_rng(seed)
    allowed = ~labelled if among is None else ~labelled & among
    clusters = min(int(labelled.sum()) + count, len(x))
    if count <= 0 or not allowed.any():
        return np.empty(0, np.int64)
    sample = np.sort(random.permutation(len(x))[:_MOST_CLUSTERED])
    centres = k_means(x[sample], min(clusters, len(sample)), random)
    cluster = np.concatenate(
        [squared_distances(x[start : start + 4096], centres).argmin(axis=1) for start in range(0, len(x), 4096)]
    )
    sizes = np.bincount(cluster, minlength=len(centres))
    covered = np.bincount(cluster[labelled], minlength=len(centres)) > 0
    found: list[int] = []
    for number in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(cluster == number)
        candidates = members[allowed[members]]
        if covered[number] or not len(candidates):
            continue
        found.append(_most_typical(x, members, candidates, random))
        if len(found) == count:
            break
    return np.array(found, np.int64)


def _most_typical(
    x: npt.NDArray[np.float32],
    members: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> int:
    members, candidates = (random.permutation(rows)[:_MOST_COMPARED] for rows in (members, candidates))
    distances = np.sqrt(squared_distances(x[candidates], x[members]))
    nearest = min(_NEIGHBOURS + 1, len(members))  # an image is its own nearest neighbour
    means = np.partition(distances, nearest - 1, axis=1)[:, :nearest].mean(axis=1)
    return int(candidates[means.argmin()])
