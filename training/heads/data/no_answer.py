"""Controls that annotators often leave empty: the head learns the answer "none" for them as one more node."""

from collections.abc import Sequence
from dataclasses import replace

from taxonomist.taxonomy.paths import NO_ANSWER
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example

OFTEN = 0.05
"""The share of a control's images, with an answer or agreed to have none, from which on emptiness is learned. Below,
it is an oversight of some annotators as likely as it is meant."""
LEAST = 4
"""The number of such images from which on emptiness is learned."""


def learn_no_answer(examples: Sequence[Example], trees: Sequence[Tree]) -> tuple[list[Example], list[Tree]]:
    """Return the examples and trees of a training: a control that is often left empty has the node `NO_ANSWER`.

    Examples that are labelled `NO_ANSWER` in another control lose that label, and leave when they have no other.
    """
    learned = []
    for tree in trees:
        labels = [example.labels[tree.control] for example in examples if example.labels.get(tree.control)]
        empty = sum(NO_ANSWER in paths for paths in labels)
        often = empty >= max(LEAST, OFTEN * len(labels)) and empty < len(labels)
        learned.append(replace(tree, paths=(*tree.paths, NO_ANSWER)) if often else tree)
    silent = {tree.control for tree in learned if NO_ANSWER in tree}
    kept = [
        replace(
            example,
            labels={
                control: paths
                for control, paths in example.labels.items()
                if NO_ANSWER not in paths or control in silent
            },
        )
        if any(NO_ANSWER in paths for paths in example.labels.values())
        else example
        for example in examples
    ]
    return [
        example for example, before in zip(kept, examples, strict=True) if example.labels or not before.labels
    ], learned
