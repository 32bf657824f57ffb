"""The part of a tree that matters for labels: a large taxonomy has many nodes that no label names."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

_NODES_KEPT = 24
"""Of each level, whether labelled or not: enough that shortlists are as long as those of the whole tree."""


def labelled_part(tree: Tree, labels: Iterable[Iterable[TaxonomyPath]]) -> Tree:
    """Return the tree without most of the nodes that no label names; the others keep their order.

    Where the other nodes have probability 0, the likeliest paths, promises and shortlists of both trees are the same:
    depth and leaves are, a node has the same first child, and a level with fewer nodes has enough of them. An array
    (images, nodes) of the part is bounded by the number of labels, whatever the size of the taxonomy.
    """
    keep = np.zeros(len(tree), np.bool_)
    named = {node for paths in labels for path in paths for node in prefixes(path)}
    keep[[tree.index[node] for node in named if node in tree]] = True
    by_level = [np.flatnonzero(tree.levels == level) for level in range(1, tree.depth + 1)]
    for nodes in by_level:
        keep[nodes[:_NODES_KEPT]] = True
    for nodes in reversed(by_level[1:]):
        keep[tree.parents[nodes[keep[nodes]]]] = True
    first_child = np.full(len(tree) + 1, len(tree))  # the last one is the level without a parent
    np.minimum.at(first_child, tree.parents, np.arange(len(tree)))
    for nodes in by_level[:-1]:
        children = first_child[nodes[keep[nodes]]]
        keep[children[children < len(tree)]] = True
    if keep.all():
        return tree
    return replace(tree, paths=tuple(tree.paths[node] for node in np.flatnonzero(keep)))
