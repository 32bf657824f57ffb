"""Dawid and Skene's model as they wrote it: classes without a tree, and a confusion matrix for each person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from taxonomist.taxonomy.agreement import PROBABLE, Answer
from taxonomist.taxonomy.agreement.answer_table import sums

_ITERATIONS = 30
_FEWEST = 2  # people who must name a class
_ON, _OFF = 0.1, 0.01  # counts added to each confusion matrix


def leaf_labels(answers: Sequence[Mapping[str, Answer]]) -> list[Answer]:
    """Return the label of each image, empty where no class is probable enough. A class is a set of paths.

    Source: Dawid and Skene (1979), https://doi.org/10.2307/2346806, with maximum a posteriori counts.
    """
    classes = sorted({answer for said in answers for answer in said.values()}, key=sorted)
    people = sorted({person for said in answers for person in said})
    class_of = {answer: number for number, answer in enumerate(classes)}
    person_of = {person: number for number, person in enumerate(people)}
    rows = np.array([(image, person_of[p], class_of[a]) for image, said in enumerate(answers) for p, a in said.items()])
    image, person, named = rows.T
    count, size = len(classes), len(answers)
    place = image * count + named
    shares = sums(place, np.ones(len(rows)), size * count).reshape(size, count)
    shares /= shares.sum(axis=1, keepdims=True)
    for _ in range(_ITERATIONS):
        confusion = np.full((len(people), count, count), _OFF) + _ON * np.eye(count)
        np.add.at(confusion, (person, named), shares[image])
        confusion /= confusion.sum(axis=1, keepdims=True)  # axes: person, named, true
        scores = np.tile(np.log(shares.mean(axis=0) + 1e-9), (size, 1))
        np.add.at(scores, image, np.log(confusion[person, named]))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
    labels = []
    for said, row in zip(answers, shares, strict=True):
        best = classes[int(row.argmax())]
        enough = row.max() >= PROBABLE and Counter(said.values())[best] >= _FEWEST
        labels.append(best if enough else frozenset())
    return labels
