"""Labels as numbers: what the head's outputs stand for and how much each counts in the loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

Labels = Mapping[str, tuple[TaxonomyPath, ...]]
"""The accepted labels of one image, by control. Never changed after it was handed over."""

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
        """Where the nodes of each control stand."""
        stops = np.cumsum([len(tree) for tree in self.trees]).tolist()
        return {tree.control: slice(stop - len(tree), stop) for tree, stop in zip(self.trees, stops, strict=True)}

    @cached_property
    def group_of(self) -> npt.NDArray[np.int64]:
        """(nodes,): number of the sibling group, each of which is one softmax, that an output belongs to."""
        group_of = np.empty(len(self), np.int64)
        number = 0
        for tree in self.trees:
            start = self.slices[tree.control].start
            for group in tree.groups:
                group_of[start + group] = number
                number += 1
        return group_of

    @cached_property
    def tops(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Per tree the outputs that are its level-1 nodes."""
        return tuple(self.slices[tree.control].start + np.flatnonzero(tree.levels == 1) for tree in self.trees)

    def encode(self, labels: Sequence[Labels]) -> Targets:
        """Targets of the images with these labels.

        A path counts on each level that it names and nowhere below; several paths of one control share the weight 1.
        What a tree does not know counts nothing.
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


def balance(targets: Targets, outputs: Outputs) -> npt.NDArray[np.float64]:
    """(n,): weight of each image, mean 1, with which every level-1 node of a control weighs the same in all."""
    weights = np.zeros(len(targets), np.float64)
    for top in outputs.tops:
        here = targets[:, top]
        counts = here.sum(axis=0)
        rarity = np.divide(1.0, counts, out=np.zeros(len(top), np.float64), where=counts > 0)
        weights += here @ rarity
    return weights * (len(weights) / weights.sum()) if weights.any() else np.ones_like(weights)
