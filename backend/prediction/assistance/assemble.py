"""Puts offers and groups of look-alikes together; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taxonomist.backend.prediction.assistance.content import LookAlikeGroup, Offer, Offers, OffersKind, ShownLookAlike
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree

MOST_OFFERS = 5
LEAST_PROBABILITY = 0.05
"""Of an alternative."""

Labels = Mapping[str, tuple[TaxonomyPath, ...]]


def offers_of(tree: Tree, suggestion: Suggestion, probabilities: Mapping[TaxonomyPath, float]) -> Offers:
    """Return the offers for a control: its suggestion and the likeliest other leaves, or its shortlist.

    `probabilities` are those of the model's nodes, none where look-alikes have voted.
    """
    known: dict[TaxonomyPath, float] = {}
    for path, chance in probabilities.items():
        if (node := tree.node_of(path)) is not None:
            known[node] = max(chance, known.get(node, 0.0))
    if suggestion.shortlist:
        return Offers(
            tree.control,
            OffersKind.SHORTLIST,
            tuple(Offer(path, known.get(path), takes(tree, [path])) for path in suggestion.shortlist[:MOST_OFFERS]),
        )
    first = Offer(suggestion.path, suggestion.score, takes(tree, [suggestion.path]))
    leaves = [
        (chance, path)
        for path, chance in known.items()
        if chance >= LEAST_PROBABILITY and tree.is_leaf[tree.index[path]] and path != suggestion.path
    ]
    others = sorted(leaves, key=lambda leaf: -leaf[0])[: MOST_OFFERS - 1]
    kind = OffersKind.SUGGESTION if probabilities else OffersKind.VOTE
    return Offers(tree.control, kind, (first, *(Offer(path, chance) for chance, path in others)))


def takes(tree: Tree, paths: Sequence[TaxonomyPath]) -> bool:
    """Return whether a control takes these paths together: `leafsOnly`, `maxUsages`, and one choice or several."""
    known = all(path in tree for path in paths)
    few_enough = len(paths) == 1 or (tree.multiple and len(paths) <= (tree.max_usages or len(paths)))
    return bool(paths) and known and few_enough and not (tree.leafs_only and not _all_leaves(tree, paths))


def _all_leaves(tree: Tree, paths: Sequence[TaxonomyPath]) -> bool:
    return all(tree.is_leaf[tree.index[path]] for path in paths)


def groups_of(trees: Sequence[Tree], look_alikes: Sequence[tuple[ShownLookAlike, Labels]]) -> list[LookAlikeGroup]:
    """Return the look-alikes by their labels: the largest group first, of equally large ones the most similar.

    Labels of other controls than those of `trees` are left out; an image without any of these is in no group.
    """
    members: dict[tuple[tuple[str, tuple[TaxonomyPath, ...]], ...], list[ShownLookAlike]] = {}
    by_control = {tree.control: tree for tree in trees}
    for look_alike, labels in look_alikes:
        label = tuple(
            (control, tuple(dict.fromkeys(by_control[control].node_of(path) or path for path in paths)))
            for control, paths in labels.items()
            if control in by_control and paths
        )
        if label:
            members.setdefault(label, []).append(look_alike)
    groups = [
        LookAlikeGroup(
            dict(label),
            tuple(found),
            {control: paths for control, paths in label if takes(by_control[control], paths)},
        )
        for label, found in members.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.look_alikes), -group.look_alikes[0].similarity))
