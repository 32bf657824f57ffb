"""Images with known labels, and people who annotate them more or less well."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from taxonomist.taxonomy.agreement.answer_table import Answer, FloatArray
from taxonomist.taxonomy.paths import TaxonomyPath, prefixes
from taxonomist.taxonomy.tree import Tree

STOPS, FORGETS, ADDS = 0.05, 0.10, 0.05  # a person stops above a node; forgets, or adds, one of several labels
RIGHT = (0.75, 0.97)  # range of the share of people at each level


@dataclass(frozen=True)
class Mistakes:
    """The share of images that are `hard` for all, what that takes from each rate, and the share of mistakes that name
    the node that looks most alike."""

    hard: float = 0.0
    loss: float = 0.0
    look_alike: float = 0.0


KIND, HARSH = Mistakes(), Mistakes(hard=0.15, loss=0.35, look_alike=0.6)


@dataclass(frozen=True)
class Scenario:
    """`people` annotate each image, drawn from a `team`, of whom the first `guessers` guess.

    `widths` has the number of nodes below one parent at each level. `several`: images have one to three labels.
    """

    widths: tuple[int, ...]
    people: int
    team: int
    guessers: int = 0
    several: bool = False
    mistakes: Mistakes = KIND


@dataclass(frozen=True)
class Simulation:
    """`truths` has the nodes of each image with those above them, `answers` the same for each image and person."""

    tree: Tree
    truths: list[Answer]
    answers: list[dict[str, Answer]]


def tree_of(widths: tuple[int, ...]) -> Tree:
    """Return the tree with that many nodes below each node, level by level."""
    paths = [
        tuple(f"{level + 1}.{number}" for level, number in enumerate(numbers))
        for depth in range(1, len(widths) + 1)
        for numbers in product(*map(range, widths[:depth]))
    ]
    return Tree(control="media", to_name="image", kind="taxonomy", paths=tuple(sorted(paths)))


def simulate(scenario: Scenario, images: int, seed: int) -> Simulation:
    """Return images with their labels and what people say of them."""
    rng = np.random.default_rng(seed)
    names = [f"{number:02d}" for number in range(scenario.team)]
    right = rng.uniform(*RIGHT, size=(scenario.team, len(scenario.widths)))
    truths, answers = [], []
    for _ in range(images):
        count = 1 + int(rng.choice(3, p=[0.65, 0.25, 0.1])) if scenario.several else 1
        labels = [_random_path(scenario.widths, rng) for _ in range(count)]
        loss = scenario.mistakes.loss * (rng.random() < scenario.mistakes.hard)
        said = {}
        for person in rng.choice(scenario.team, size=scenario.people, replace=False):
            if person < scenario.guessers:
                paths = [_random_path(scenario.widths, rng)]
            else:
                paths = _answer(labels, right[person] - loss, scenario, rng)
            said[names[person]] = _nodes(paths)
        truths.append(_nodes(labels))
        answers.append(said)
    return Simulation(tree_of(scenario.widths), truths, answers)


def _answer(
    labels: list[list[int]], right: FloatArray, scenario: Scenario, rng: np.random.Generator
) -> list[list[int]]:
    kept = [label for label in labels if len(labels) == 1 or rng.random() >= FORGETS] or labels[:1]
    paths = [_named(label, right, scenario, rng) for label in kept]
    if scenario.several and rng.random() < ADDS:
        paths.append(_random_path(scenario.widths, rng))
    return paths


def _named(label: list[int], right: FloatArray, scenario: Scenario, rng: np.random.Generator) -> list[int]:
    """Return what a person names for a label; after a mistake the levels below are drawn at random."""
    path: list[int] = []
    widths = scenario.widths
    for level, (node, width) in enumerate(zip(label, widths, strict=True)):
        if level and rng.random() < STOPS:
            return path
        if rng.random() < right[level]:
            path.append(node)
            continue
        look_alike = node ^ 1 if node ^ 1 < width else node - 1
        others = [other for other in range(width) if other != node]
        path.append(look_alike if rng.random() < scenario.mistakes.look_alike else int(rng.choice(others)))
        return path + _random_path(widths[level + 1 :], rng)
    return path


def _random_path(widths: tuple[int, ...], rng: np.random.Generator) -> list[int]:
    return [int(rng.integers(width)) for width in widths]


def _nodes(paths: list[list[int]]) -> Answer:
    named: list[TaxonomyPath] = [tuple(f"{level + 1}.{n}" for level, n in enumerate(path)) for path in paths]
    return frozenset(node for path in named for node in prefixes(path))
