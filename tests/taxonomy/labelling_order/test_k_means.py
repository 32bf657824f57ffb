"""k-means beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from taxonomist.taxonomy.labelling_order.k_means import k_means, squared_distances


def test_the_centres_are_as_good_as_those_of_scikit_learn() -> None:
    x, _ = make_blobs(600, 8, centers=12, random_state=3)
    x = x.astype(np.float32)
    ours = min(
        squared_distances(x, k_means(x, 12, np.random.default_rng(seed))).min(axis=1).sum() for seed in range(10)
    )
    theirs = KMeans(12, n_init=10, random_state=0).fit(x).inertia_
    assert ours == pytest.approx(theirs, rel=0.02)


def test_more_clusters_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 clusters of 2 images"):
        k_means(np.zeros((2, 2), np.float32), 3, np.random.default_rng(0))
