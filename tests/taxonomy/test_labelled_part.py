"""The part of a tree that labels name stands for the whole one in all that is fitted on their probabilities."""

import numpy as np
import pytest

from taxonomist.taxonomy.agreement.doubtful_labels import doubtful_labels
from taxonomist.taxonomy.calibration import fit_promise, fit_shortlists
from taxonomist.taxonomy.labelled_part import labelled_part
from taxonomist.taxonomy.paths import NO_ANSWER, TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree


def random_tree(random: np.random.Generator, *, leafs_only: bool) -> Tree:
    paths: list[TaxonomyPath] = [NO_ANSWER]
    frontier: list[TaxonomyPath] = [()]
    for level in range(3):
        most = (60, 4, 3)[level]
        fewest = most if level == 0 else 0
        frontier = [
            (*parent, f"n{number}") for parent in frontier for number in range(int(random.integers(fewest, most + 1)))
        ]
        paths += frontier
    return Tree("t", "image", "taxonomy", tuple(paths), leafs_only=leafs_only)


@pytest.mark.parametrize("seed", range(6))
def test_promises_shortlists_and_doubts_are_those_of_the_whole_tree(seed: int) -> None:
    random = np.random.default_rng(seed)
    tree = random_tree(random, leafs_only=seed % 2 == 1)
    named = [tree.paths[node] for node in random.choice(len(tree), 12, replace=False)]
    truths = [[named[number]] for number in random.integers(0, len(named), 400)]
    part = labelled_part(tree, truths)
    assert len(part) < len(tree)
    assert set(part.paths) < set(tree.paths)
    assert part.depth == tree.depth
    products = [str(row // 2) for row in range(len(truths))]
    whole = np.zeros((len(truths), len(tree)))
    unknown = named[0]  # to the model of some images
    for row, (truth,) in enumerate(truths):
        guesses = [path for path in named if path != unknown] if row % 3 == 0 else named
        shares = random.dirichlet([3.0 if path == truth else 0.1 for path in guesses])
        for path, share in zip(guesses, shares, strict=True):
            whole[row, [tree.index[node] for node in prefixes(path)]] += share
    whole[0] = 0
    of_part = whole[:, [tree.index[path] for path in part.paths]]
    fitted = []
    for used, values in ((tree, whole), (part, of_part)):
        calibration = fit_promise(used, values, truths, products, target_precision=0.8)
        lists = fit_shortlists(used, values, truths, products, calibration)
        doubts = doubtful_labels(used, truths, values, [None] * len(truths), products)
        fitted.append((lists, doubts))
    assert fitted[0] == fitted[1]
    assert fitted[0][1]


def test_a_tree_without_other_nodes_is_itself() -> None:
    tree = Tree.from_paths("t", [("a", "b"), ("c",)])
    assert labelled_part(tree, []) is tree
