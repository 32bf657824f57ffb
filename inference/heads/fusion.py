"""One prediction for the images of a product: how much evidence they are together, and how deep it reaches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taxonomist.inference.heads.discriminant_weights import Discriminant, node_probabilities
from taxonomist.inference.heads.features import Array, ProductProjection, features
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree

FUSION_FILE = "fusion.safetensors"

CORRELATION = 0.5
"""Of the images of a product, in the evidence that they are together (`benchmarks.trust.groups`)."""

MOST_IMAGES = 16
"""Images of a product that are predicted together; more of them are hardly more evidence."""

_ARRAYS = ("bias", "prior")


@dataclass(frozen=True)
class Fusion:
    """How images of a product are predicted together by a discriminant.

    The log-likelihoods of the classes are linear in the features, so those of the mean features are the mean of those
    of the images. They are `scale` times those of the discriminant, plus `bias` (classes,); `prior` (classes,) counts
    once for all images. The images share the nodes down to the level `depth`.
    """

    scale: float
    bias: Array
    prior: Array
    depth: int

    def probabilities(
        self, head: Discriminant, tree: Tree, embeddings: Array, means: Array, sizes: npt.NDArray[np.int64]
    ) -> FloatArray:
        """Return P(path) (n, nodes) of images with embeddings (n, d), predicted with the others of their products.

        `means` (n, k) are the mean features of all images of each product, in the space of `head`, `sizes` (n,) their
        numbers. An image that is alone is predicted as by `head`.
        """
        own = head.probabilities(embeddings)
        evidence = self.scale * (means @ head.weight.T) + self.bias
        evidence *= effective_images(sizes, CORRELATION)[:, None]
        together = node_probabilities((evidence + self.prior).astype(np.float32), head.nodes, head.parents)
        found = grafted(tree, together, own, self.depth)
        found[sizes < 2] = own[sizes < 2]
        return found


def save_fusions(path: Path, fusions: Mapping[str, Fusion]) -> None:
    """Write the fusions, by control. Equal ones give equal bytes."""
    arrays = {
        f"{number}.{name}": np.ascontiguousarray(getattr(fusion, name))
        for number, fusion in enumerate(fusions.values())
        for name in _ARRAYS
    }
    numbers = {control: [fusion.scale, fusion.depth] for control, fusion in fusions.items()}
    path.write_bytes(save(arrays, metadata={"fusion": json.dumps({FORMAT: 1, "controls": numbers})}))


def load_fusions(path: Path) -> dict[str, Fusion]:
    """Return the fusions in a file, by control. Raises `DamagedError` when `save_fusions` did not write it."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["fusion"])
            check_format(path, int(metadata[FORMAT]), newest=1)
            found = {}
            for number, (control, (scale, depth)) in enumerate(metadata["controls"].items()):
                bias, prior = (file.get_tensor(f"{number}.{name}") for name in _ARRAYS)
                found[str(control)] = Fusion(float(scale), bias, prior, int(depth))
            return found
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is not a readable fusion: {error}") from error


def mean_features(
    embeddings: Array, others: Sequence[Array], space: ProductProjection | None = None
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return the mean features (n, k) of images (n, d) and the `others` (m, d) of each one's product, in a `space`, and
    the numbers of images (n,)."""
    means = features(embeddings, space)
    for row, more in enumerate(others):
        if len(more):
            means[row] = (means[row] + features(more, space).sum(axis=0)) / (len(more) + 1)
    return means, np.array([len(more) + 1 for more in others], np.int64)


def effective_images(sizes: npt.NDArray[np.int64], correlation: float) -> npt.NDArray[np.float64]:
    """Return how many independent images those of groups are worth, shape (n,), for groups of `sizes` (n,) images.

    It is n / (1 + (n - 1) * correlation), where `correlation` (0 to 1) is that of the images within a group (Kish 1965,
    Survey sampling, 5.4). With 0 each image is new evidence, with 1 all of them are worth one.

    >>> effective_images(np.array([1, 5]), 0.25).tolist()
    [1.0, 2.5]
    """
    counts = np.asarray(sizes, np.float64)
    worth: npt.NDArray[np.float64] = counts / (1 + (counts - 1) * correlation)
    return worth


def grafted(tree: Tree, fused: FloatArray, own: FloatArray, depth: int) -> FloatArray:
    """Return P(path) (n, nodes): down to level `depth` as in `fused`, below it divided as in `own`, both (n, nodes).

    So what an image shares with its group comes from the group, and what it need not share from the image alone. Where
    `own` gives a node of level `depth` no probability, what is below it is divided as in `fused`.
    """
    result = np.array(fused)
    if depth < 1:
        return np.array(own)
    anchors = np.flatnonzero(tree.levels == depth)
    anchor = np.full(len(tree), -1, np.int64)
    anchor[anchors] = anchors
    for level in range(depth + 1, tree.depth + 1):
        nodes = np.flatnonzero(tree.levels == level)
        anchor[nodes] = anchor[tree.parents[nodes]]
        above = own[:, anchor[nodes]]
        shares = np.divide(own[:, nodes], above, out=np.zeros_like(above), where=above > 0)
        result[:, nodes] = np.where(above > 0, fused[:, anchor[nodes]] * shares, fused[:, nodes])
    return result
