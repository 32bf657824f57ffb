"""What of two heads' predictions is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from taxonomist.taxonomy.comparison.paired import LEAST_PROBABILITY
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.promotion.champion import Predictions, compare, predict

COLOURS = Tree("colour", "image", "choices", (("red",), ("blue",)))
SHAPES = Tree("shape", "image", "choices", (("round",), ("square",)))


def predictions(**rows: list[list[float]]) -> dict[str, Predictions]:
    found = {}
    for tree in (COLOURS, SHAPES):
        if tree.control in rows:
            scores = np.log(np.array(rows[tree.control]))
            paths = tuple(tree.paths[column] for column in scores.argmax(axis=1))
            found[tree.control] = Predictions(paths, tree.paths, scores)
    return found


def test_labels_of_all_controls_count_and_a_control_that_the_champion_does_not_know_counts_against_it() -> None:
    test = [
        Example("1", {"colour": (("red",),), "shape": (("round",),)}, group="a"),
        Example("2", {"shape": (("square",),)}, group="b"),
        Example("3", {}, group="c"),
    ]
    challenger = predictions(colour=[[0.4, 0.6], [0.5, 0.5], [0.5, 0.5]], shape=[[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]])
    champion = predictions(colour=[[0.8, 0.2], [0.5, 0.5], [0.5, 0.5]])
    found = compare([COLOURS, SHAPES], test, challenger, champion)
    assert (found.labels, found.products) == (3, 2)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.champion_f1 == pytest.approx(2 * 1 / (1 + 3))  # it gives one path for three labels
    assert found.loss == pytest.approx(-np.log(0.4 * 0.8 * 0.9) / 3)
    assert found.champion_loss == pytest.approx(-np.log(0.8 * LEAST_PROBABILITY**2) / 3)


class FixedHead:
    """A head that predicts the same for every image."""

    dimension = 1

    def log_probabilities(
        self, x: NDArray[np.float32], trees: Mapping[str, Tree], temperatures: Mapping[str, float]
    ) -> dict[str, FloatArray]:
        assert temperatures == {}
        return {control: np.log(np.full((len(x), 2), [0.9, 0.1])) for control in trees}

    def save(self, path: Path) -> None: ...


def test_a_champion_is_scored_under_the_names_that_nodes_and_controls_have_now() -> None:
    now = replace(COLOURS, control="paint", paths=(("crimson",), ("blue",)), former=("colour",))
    now = replace(now, renamed=((("red",), ("crimson",)),))
    found = predict(FixedHead(), {"colour": COLOURS}, [now], np.zeros((1, 1), np.float32), {})
    assert list(found) == ["paint"]
    compared = compare([now], [Example("1", {"paint": (("crimson",),)})], found, found)
    assert compared.f1 == 1
    assert compared.loss == pytest.approx(-np.log(0.9))
