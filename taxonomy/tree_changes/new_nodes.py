"""Nodes that a model has not learned, proposed by look-alikes: no threshold is behind such a proposal."""

from collections import Counter
from collections.abc import Sequence

from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

VOTES = 3
"""Look-alikes that must have the node, and so the labels that a new node needs."""

VOTERS = 2 * VOTES - 1
"""The nearest look-alikes among which they are: three are more than half of them."""


def propose_new_node(tree: Tree, learned: Tree, look_alikes: Sequence[Sequence[TaxonomyPath]]) -> TaxonomyPath | None:
    """Return the deepest node that `VOTES` of the `VOTERS` nearest look-alikes have and the model has not learned.

    `look_alikes` are their labels, the nearest first; `learned` is the model's tree, whose nodes may have other names
    now. None where there is no such node, and where it is no leaf but the control takes leaves only.
    """
    votes: Counter[TaxonomyPath] = Counter()
    for paths in look_alikes[:VOTERS]:
        votes.update({node for path in paths for node in prefixes(tree.known_prefix(path))})
    agreed = [node for node, count in votes.items() if count >= VOTES and node not in learned]
    if not agreed:
        return None
    known = {tree.node_of(path) for path in learned.paths}
    found = max((node for node in agreed if node not in known), key=len, default=None)
    return None if found and tree.leafs_only and not tree.is_leaf[tree.index[found]] else found
