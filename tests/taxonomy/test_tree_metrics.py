import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from taxonomist.taxonomy.errors import TrainingError
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree_metrics import LevelMetrics, evaluate_paths

from .conftest import SMALL

X, Y, B, C, E = ("A", "B", "X"), ("A", "B", "Y"), ("A", "B"), ("A", "C"), ("D", "E")

TRUTH = st.lists(st.sampled_from(SMALL.paths), min_size=1, max_size=2, unique=True)
PREDICTION = st.sampled_from([*SMALL.paths, None])


def test_by_hand() -> None:
    truths: list[list[TaxonomyPath]] = [[X], [X], [Y], [E], [B], []]
    metrics = evaluate_paths(SMALL, truths, [X, Y, C, None, X, X])
    assert metrics.levels == (
        LevelMetrics(1, 5, 4 / 5, (1 + 0) / 2),  # A 4 of 4, D missed
        LevelMetrics(2, 5, 3 / 5, (6 / 7 + 0 + 0) / 3),  # B 3 right 1 missed, C invented, E missed
        LevelMetrics(3, 3, 1 / 3, (2 / 3 + 0) / 2),  # X right once, missed once; Y missed and invented
    )
    # nodes shared 3 + 2 + 1 + 0 + 2; predicted 3 + 3 + 2 + 0 + 3; true 3 + 3 + 3 + 2 + 2
    assert metrics.hierarchical_precision == pytest.approx(8 / 11)
    assert metrics.hierarchical_recall == pytest.approx(8 / 13)
    assert metrics.hierarchical_f1 == pytest.approx(2 * 8 / 24)
    assert metrics.mean_depth == 11 / 5
    assert metrics.macro_f1 == pytest.approx((5 * 1 / 2 + 5 * 2 / 7 + 3 * 1 / 3) / 13)


def test_perfect_and_silent() -> None:
    truths: list[list[TaxonomyPath]] = [[X], [E], [C]]
    perfect = evaluate_paths(SMALL, truths, [X, E, C])
    assert {perfect.macro_f1, perfect.hierarchical_f1, *(level.accuracy for level in perfect.levels)} == {1.0}
    silent = evaluate_paths(SMALL, truths, [None] * 3)
    assert (silent.macro_f1, silent.hierarchical_precision, silent.hierarchical_f1, silent.mean_depth) == (0, 0, 0, 0)


def test_levels_that_no_truth_reaches_are_left_out() -> None:
    metrics = evaluate_paths(SMALL, [[("A",)], [("D",)]], [X, E])
    assert [level.level for level in metrics.levels] == [1]
    assert metrics.macro_f1 == 1.0


def test_one_of_several_truths_is_accurate() -> None:
    (top, middle) = evaluate_paths(SMALL, [[C, E]], [C]).levels
    assert (top.accuracy, middle.accuracy) == (1.0, 1.0)
    assert top.macro_f1 == 0.5  # D was not found


def test_nodes_of_an_older_tree_are_wrong() -> None:
    metrics = evaluate_paths(SMALL, [[X]], [("A", "Old", "Older", "Oldest")])
    assert [level.accuracy for level in metrics.levels] == [1.0, 0.0, 0.0]
    assert metrics.hierarchical_precision == 1 / 4


@given(st.lists(st.tuples(TRUTH, PREDICTION), min_size=1, max_size=25))
def test_levels_equal_scikit_learn(images: list[tuple[list[TaxonomyPath], TaxonomyPath | None]]) -> None:
    metrics = evaluate_paths(SMALL, [truth for truth, _ in images], [prediction for _, prediction in images])
    for level in metrics.levels:
        n = level.level
        true = [{path[:n] for path in truth if len(path) >= n} for truth, _ in images]
        predicted = [{prediction[:n]} if prediction and len(prediction) >= n else set() for _, prediction in images]
        kept = [i for i, nodes in enumerate(true) if nodes]
        classes = sorted({node for i in kept for node in true[i] | predicted[i]})
        index = {node: i for i, node in enumerate(classes)}
        # one more column, or scikit-learn takes a single one for a binary task; `labels` leaves it out again
        encode = MultiLabelBinarizer(classes=list(range(len(classes) + 1)))
        y_true = encode.fit_transform([[index[node] for node in true[i]] for i in kept])
        y_pred = encode.transform([[index[node] for node in predicted[i]] for i in kept])
        assert level.support == len(kept)
        theirs = f1_score(y_true, y_pred, labels=range(len(classes)), average="macro", zero_division=0)
        assert level.macro_f1 == pytest.approx(theirs)


@given(st.lists(st.tuples(st.sampled_from([X, Y]), st.sampled_from([X, Y])), min_size=1, max_size=25))
def test_single_labels_equal_scikit_learn(images: list[tuple[TaxonomyPath, TaxonomyPath]]) -> None:
    true, predicted = [path[-1] for path, _ in images], [path[-1] for _, path in images]
    level = evaluate_paths(SMALL, [[path] for path, _ in images], [path for _, path in images]).levels[2]
    assert level.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert level.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))


@given(st.lists(st.tuples(TRUTH, PREDICTION), min_size=1, max_size=10))
def test_scores_are_shares(images: list[tuple[list[TaxonomyPath], TaxonomyPath | None]]) -> None:
    metrics = evaluate_paths(SMALL, [truth for truth, _ in images], [prediction for _, prediction in images])
    scores = (metrics.hierarchical_precision, metrics.hierarchical_recall, metrics.hierarchical_f1, metrics.macro_f1)
    assert all(0 <= score <= 1 for score in scores)
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["levels"][0]["level"] == 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="1 truths but 2 predictions"):
        evaluate_paths(SMALL, [[X]], [X, X])
    with pytest.raises(TrainingError, match="no image has an accepted label"):
        evaluate_paths(SMALL, [[], []], [X, X])
    with pytest.raises(TrainingError, match='"Z" is not in the taxonomy "media"'):
        evaluate_paths(SMALL, [[("Z",)]], [X])
