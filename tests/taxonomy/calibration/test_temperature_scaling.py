from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from taxonomist.taxonomy.calibration import fit_temperature
from taxonomist.taxonomy.path_probabilities import path_log_probabilities
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from tests.taxonomy.conftest import FLAT, SMALL, logits_of


def negative_log_likelihood(
    tree: Tree, logits: NDArray[Any], truths: list[list[TaxonomyPath]], inverse: float
) -> float:
    scores = path_log_probabilities(logits * inverse, tree)
    return -sum(float(scores[row, tree.index[path]]) / len(paths) for row, paths in enumerate(truths) for path in paths)


def test_temperature_equals_a_numeric_minimum() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(300, len(SMALL))) * 4
    # truths drawn from a much flatter model, some of them stopping early, some images with two
    flatter = np.exp(path_log_probabilities(logits / 3, SMALL))
    truths = [[SMALL.paths[rng.choice(7, p=row / row.sum())]] for row in flatter]
    truths[0].append(("D",))
    theirs = minimize_scalar(
        lambda inverse: negative_log_likelihood(SMALL, logits, truths, inverse), bounds=(0.05, 4), method="bounded"
    )
    ours = fit_temperature(SMALL, logits, truths)
    assert ours == pytest.approx(1 / theirs.x, rel=1e-3)
    assert 2 < ours < 4


def test_a_calibrated_model_is_left_alone() -> None:
    # 3 of 4 are right where the model says 3/4
    logits = logits_of(FLAT, [[0.75, 0.25]] * 4)
    assert fit_temperature(FLAT, logits, [[("A",)]] * 3 + [[("B",)]]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("truths", "expected"),
    [([[("A",)]] * 3, 0.25), ([[("B",)]] * 3, 20.0), ([[]] * 3, 1.0)],
)
def test_temperature_stays_within_bounds(truths: list[list[TaxonomyPath]], expected: float) -> None:
    assert fit_temperature(FLAT, logits_of(FLAT, [[0.9, 0.1]] * 3), truths) == expected


def test_temperature_without_any_choice_is_one() -> None:
    chain = Tree("media", "image", "taxonomy", (("A",), ("A", "B")))
    assert fit_temperature(chain, np.array([[3.0, -2.0]]), [[("A", "B")]]) == 1.0
    assert fit_temperature(FLAT, np.zeros((2, 2)), [[("A",)], [("B",)]]) == 1.0
