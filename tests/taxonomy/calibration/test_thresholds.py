import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from taxonomist.taxonomy.calibration import Calibration, fit_calibration, wilson_lower_bound
from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.taxonomy.path_probabilities import path_log_probabilities
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from tests.taxonomy.conftest import FLAT, SMALL, logits_of

A: TaxonomyPath = ("A",)
B: TaxonomyPath = ("B",)


def test_threshold_by_hand() -> None:
    # 20 images at 0.9 all right, 20 at 0.7 half right: the bound of 20/20 is 0.966, of 30/40 it is 0.69
    logits = logits_of(FLAT, [[0.9, 0.1]] * 20 + [[0.7, 0.3]] * 20)
    truths = [[A]] * 30 + [[B]] * 10
    fitted = fit_calibration(FLAT, logits, truths)
    assert fitted.support == (40,)
    scores = np.exp(path_log_probabilities(logits / fitted.temperature, FLAT))[:, 0]
    assert fitted.thresholds == (scores[0],)
    # with half the precision asked for, everything may be suggested
    assert fit_calibration(FLAT, logits, truths, target_precision=0.6).thresholds == (scores[-1],)
    # never, where nothing is good enough: 6 images without a mistake are too few to show 0.90, 7 are not
    assert fit_calibration(FLAT, logits[:6], truths[:6]).thresholds == (math.inf,)
    assert fit_calibration(FLAT, logits[:7], truths[:7]).thresholds[0] < 1


def test_equal_scores_stand_or_fall_together() -> None:
    # 40 images with one score, 36 right. In a lucky order the first 30 would pass; all 40 do not.
    logits = logits_of(FLAT, [[0.8, 0.2]] * 40)
    truths = [[B]] * 4 + [[A]] * 36
    assert wilson_lower_bound(36, 40, 0.8416) < 0.9 < wilson_lower_bound(30, 30, 0.8416)
    assert fit_calibration(FLAT, logits, truths).thresholds == (math.inf,)


def certain(path: TaxonomyPath, tree: Tree = SMALL) -> NDArray[Any]:
    """Return logits that lead to this path with near certainty."""
    logits = np.zeros(len(tree))
    for node in tree.ancestors(tree.index[path]):
        logits[node] = 5
    return logits


def test_what_judges_a_level() -> None:
    logits = np.stack([certain(("A", "B", "X"))] * 30)
    fitted = fit_calibration(SMALL, logits, [[("A", "B", "X")]] * 10 + [[("A", "B")]] * 10 + [[]] * 10)
    # whose truth stops at A/B on the way to X does not judge level 3; who has no truth judges nothing
    assert fitted.support == (20, 20, 10)
    assert all(threshold < 1 for threshold in fitted.thresholds)
    # a truth that ends elsewhere does: D/E says that A, A/B and A/B/X are wrong
    fitted = fit_calibration(SMALL, logits, [[("A", "B", "X")]] * 10 + [[("D", "E")]] * 20)
    assert fitted.support == (30, 30, 30)
    assert fitted.thresholds == (math.inf,) * 3
    # right when one of several truths goes through the node
    fitted = fit_calibration(SMALL, logits, [[("D",), ("A", "B", "X")]] * 30)
    assert fitted.support == (30, 30, 30)
    assert all(threshold < 1 for threshold in fitted.thresholds)


def test_the_precision_of_each_level_is_its_own() -> None:
    # the model always says X; level 2 is right, the leaf in half of the cases
    logits = np.stack([certain(("A", "B", "X"))] * 40)
    fitted = fit_calibration(SMALL, logits, [[("A", "B", "X")], [("A", "B", "Y")]] * 20)
    assert fitted.thresholds[2] == math.inf
    assert max(fitted.thresholds[:2]) < 1


def test_leafs_only_judges_leaves() -> None:
    leafs = replace(SMALL, leafs_only=True)
    logits = np.stack([certain(("A", "B", "X"))] * 10 + [certain(("D", "E"))] * 8)
    fitted = fit_calibration(leafs, logits, [[("A", "B", "X")]] * 10 + [[("D", "E")]] * 8)
    assert fitted.support == (0, 8, 10)
    assert fitted.thresholds[0] == math.inf


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8, 0.9]))
def test_thresholds_hold_on_what_they_were_fitted_on(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(60, 2)) * 2
    truths: list[list[TaxonomyPath]] = [[FLAT.paths[int(rng.random() < 1 / (1 + np.exp(a - b)))]] for a, b in logits]
    fitted = fit_calibration(FLAT, logits, truths, target_precision=target)
    scores = np.exp(path_log_probabilities(logits / fitted.temperature, FLAT))
    best = scores.argmax(axis=1)
    right = np.array([FLAT.paths[node] == paths[0] for node, paths in zip(best, truths, strict=True)])
    score = scores.max(axis=1)

    def holds(threshold: float) -> bool:
        above = score >= threshold
        return bool(wilson_lower_bound(int(right[above].sum()), int(above.sum()), 0.8416212335729143) >= target)

    (threshold,) = fitted.thresholds
    assert math.isinf(threshold) or holds(threshold)
    assert not any(holds(lower) for lower in score[score < threshold])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="2 rows of logits but 1 truths"):
        fit_calibration(FLAT, np.zeros((2, 2)), [[("A",)]])
    with pytest.raises(TrainingError, match='"C" is not in the taxonomy "media"'):
        fit_calibration(FLAT, np.zeros((1, 2)), [[("C",)]])


def test_nothing_held_out_suggests_nothing() -> None:
    assert fit_calibration(SMALL, np.zeros((0, 7)), []) == Calibration(1.0, (math.inf,) * 3, 0.9, (0, 0, 0))


def test_json() -> None:
    fitted = Calibration(1.5, (0.25, math.inf), 0.9, (12, 0), (0.6, math.inf), "average", 60, 300)
    data = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    assert Calibration.from_json(data) == fitted
    newer = {"shortlists", "promise", "labels", "labels_needed"}
    former = {key: value for key, value in data.items() if key not in newer}  # a version of an earlier release
    assert Calibration.from_json(former) == Calibration(1.5, (0.25, math.inf), 0.9, (12, 0))
    for broken in (
        {},
        {**data, "thresholds": ["high"]},
        {**data, "support": None},
        {**data, "shortlists": ["high"]},
        {**data, "labels": "many"},
    ):
        with pytest.raises(ConfigError, match="not a stored calibration"):
            Calibration.from_json(broken)


def test_what_was_never_learned_leaves_the_temperature_alone() -> None:
    """Two siblings of which one had no example: only the hottest temperature would excuse how sure the other is."""
    tree = Tree.from_paths("t", [("A", "seen"), ("A", "unseen"), ("B",)])
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (400, len(tree)))
    logits[:, tree.index["A", "unseen"]] = -9.0
    top = [
        ("A", "unseen") if draw < 1 / (1 + np.exp(b - a)) else ("B",)
        for a, b, draw in top_choices(tree, logits, random)
    ]
    truths = [[path] for path in top]
    learned = {("A",), ("A", "seen"), ("B",)}
    assert fit_calibration(tree, logits, truths).temperature > 5
    assert fit_calibration(tree, logits, truths, learned=learned).temperature == pytest.approx(1.0, abs=0.25)


def top_choices(tree: Tree, logits: NDArray[Any], random: np.random.Generator) -> list[tuple[float, float, float]]:
    columns = logits[:, tree.index[("A",)]], logits[:, tree.index[("B",)]]
    return list(zip(*columns, random.random(len(logits)), strict=True))
