"""Labels: their nodes, the part of them that a head knows, and as numbers what it learns from and their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath, deepest, prefixes
from taxonomist.taxonomy.tree import Tree

Labels = Mapping[str, tuple[TaxonomyPath, ...]]
"""The accepted labels of one image, by control. Must not be changed after it was passed on."""

Node = tuple[str, ...]
"""A control and a path of its taxonomy."""

Vectors = npt.NDArray[np.float32]
"""(rows, d): embeddings."""

Targets = npt.NDArray[np.float32]
"""(n, nodes): the weight of -log P(node | parent) in the loss of each image."""


@dataclass(frozen=True)
class Outputs:
    """The head's outputs: the nodes of all trees, one tree after the other."""

    trees: tuple[Tree, ...]

    def __len__(self) -> int:
        return sum(len(tree) for tree in self.trees)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """The positions of each control's nodes."""
        stops = np.cumsum([len(tree) for tree in self.trees]).tolist()
        return {tree.control: slice(stop - len(tree), stop) for tree, stop in zip(self.trees, stops, strict=True)}

    @cached_property
    def group_of(self) -> npt.NDArray[np.int64]:
        """(nodes,): the number of each output's group of siblings; a group is one softmax."""
        group_of = np.empty(len(self), np.int64)
        group_number = 0
        for tree in self.trees:
            start = self.slices[tree.control].start
            for group in tree.groups:
                group_of[start + group] = group_number
                group_number += 1
        return group_of

    @cached_property
    def tops(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each tree the outputs of its level-1 nodes."""
        return tuple(self.slices[tree.control].start + np.flatnonzero(tree.levels == 1) for tree in self.trees)

    def encode(self, labels: Sequence[Labels]) -> Targets:
        """Return targets (n, nodes) of n images with these labels.

        A path has the weight 1 at each of its nodes; several paths of one control share it. Below its end, and when the
        tree does not have it, a path has no weight.
        """
        targets = np.zeros((len(labels), len(self)), np.float32)
        for tree in self.trees:
            start = self.slices[tree.control].start
            for row, label in enumerate(labels):
                paths = [path for path in label.get(tree.control, ()) if path in tree]
                for path in paths:
                    for node in prefixes(path):
                        targets[row, start + tree.index[node]] += 1 / len(paths)
        return targets


def stops(tree: Tree, labels: Sequence[Sequence[TaxonomyPath]]) -> Targets:
    """Return (n, nodes) of the tree: the weight of the nodes at which the labels of n images stop, in sum 1 for each.

    Paths that the tree does not have are left out.
    """
    weights = np.zeros((len(labels), len(tree)), np.float32)
    for row, paths in enumerate(labels):
        known = [path for path in paths if path in tree]
        for path in known:
            weights[row, tree.index[path]] += 1 / len(known)
    return weights


@dataclass(frozen=True)
class HeadData:
    """Embeddings and targets of images.

    An image has a row for itself and then one for each augmented view: `vectors` (rows, d), and `owners` (rows,), the
    number of each row's image, ascending. `targets` are (images, nodes).
    """

    vectors: Vectors
    owners: npt.NDArray[np.int64]
    targets: Targets

    @classmethod
    def plain(cls, vectors: Vectors, targets: Targets) -> HeadData:
        """Return data with one row for each image."""
        return cls(vectors, np.arange(len(vectors)), targets)


def check_finite(vectors: Vectors) -> None:
    """Raise TrainingError for an embedding with a number that is not finite."""
    if not np.isfinite(vectors).all():
        raise TrainingError(
            "An embedding is not finite.", hint="Delete the folder of embeddings; the images are embedded again."
        )


def balance(targets: Targets, outputs: Outputs) -> npt.NDArray[np.float64]:
    """Return weights (n,) of the images, with mean 1: in sum, every level-1 node of a control has the same weight."""
    weights = np.zeros(len(targets), np.float64)
    for top in outputs.tops:
        top_targets = targets[:, top]  # (n, level-1 nodes)
        counts = top_targets.sum(axis=0)
        rarity = np.divide(1.0, counts, out=np.zeros(len(top), np.float64), where=counts > 0)
        weights += top_targets @ rarity
    return weights * (len(weights) / weights.sum()) if weights.any() else np.ones_like(weights)


def nodes_of(labels: Iterable[Labels]) -> frozenset[Node]:
    """Return every node on the paths of the labels, with its control in front."""
    named = {(control, path) for image in labels for control, paths in image.items() for path in paths}
    return frozenset((control, *node) for control, path in named for node in prefixes(path))


def scored(labels: Sequence[Labels], known: frozenset[Node]) -> list[Labels]:
    """Return the labels of each image that a head is scored on: each path down to the deepest node in `known`.

    A head cannot name a node that it never saw, and far down a tested product is often the only one of its node. A
    control without a known node is left out.
    """
    return [
        {
            control: cut
            for control, paths in image.items()
            if (cut := deepest({_known_part(control, path, known) for path in paths} - {()}))
        }
        for image in labels
    ]


def _known_part(control: str, path: TaxonomyPath, known: frozenset[Node]) -> TaxonomyPath:
    return next((path[:end] for end in range(len(path), 0, -1) if (control, *path[:end]) in known), ())
