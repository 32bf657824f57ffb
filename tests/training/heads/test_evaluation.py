import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import classification_report, confusion_matrix

from taxonomist.inference.heads.head import Head
from taxonomist.inference.heads.head_weights import HeadWeights
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray, greedy_path, path_log_probabilities
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import Tree
from taxonomist.training.heads.evaluation import (
    NO_PREDICTION,
    evaluate,
    evaluate_predictions,
    evaluate_suggestions,
    predict_paths,
)
from taxonomist.training.heads.head import Epoch
from taxonomist.training.heads.report.confusions import Confusion, confusions, most_confused, write_confusions
from taxonomist.training.heads.report.plots import plot_confusion, plot_curves
from taxonomist.training.heads.report.version_files import write_json


def random_labels(tree: Tree, count: int, seed: int) -> list[dict[str, tuple[TaxonomyPath, ...]]]:
    random = np.random.default_rng(seed)
    return [{"media": (tree.paths[i],)} for i in random.integers(len(tree), size=count)]


def test_predictions_are_the_greedy_paths(tree: Tree) -> None:
    uneven = Tree("media", "image", "taxonomy", (*tree.paths, ("leaf",)))
    logits = np.random.default_rng(0).normal(size=(40, len(uneven))).astype(np.float32)
    probabilities = np.exp(path_log_probabilities(logits, uneven))
    expected = [uneven.paths[greedy_path(uneven, row)[-1]] for row in probabilities]
    assert predict_paths(uneven, logits) == expected
    assert ("leaf",) in expected


def test_report_is_scikit_learns(tree: Tree) -> None:
    labels = [label for label in random_labels(tree, 200, 0) if len(label["media"][0]) == 2]
    predictions = [label["media"][0] for label in random_labels(tree, len(labels), 1)]
    evaluation = evaluate_predictions(tree, labels, predictions)
    assert evaluation is not None
    true = [label["media"][0][0] for label in labels]
    guess = [path[0] for path in predictions]
    expected = classification_report(true, guess, output_dict=True, zero_division=0)
    level = evaluation.levels[0]
    for row in level.classes:
        assert row.precision == pytest.approx(expected[row.name]["precision"])
        assert row.recall == pytest.approx(expected[row.name]["recall"])
        assert row.f1 == pytest.approx(expected[row.name]["f1-score"])
        assert row.support == expected[row.name]["support"]
    assert (level.matrix == confusion_matrix(true, guess)).all()
    assert evaluation.metrics.levels[0].accuracy == pytest.approx(expected["accuracy"])


def test_what_is_suggested_for_the_test_images() -> None:
    tree = Tree("media", "image", "taxonomy", (("A",), ("A", "B"), ("C",)))

    class Given:
        """A head whose embeddings are its probabilities."""

        def log_probabilities(self, x: FloatArray, *_: object) -> dict[str, FloatArray]:
            return {"media": np.log(x)}

    sure, unsure, none = (0.9, 0.8, 0.1), (0.9, 0.2, 0.1), (0.5, 0.3, 0.5)
    x = np.array([sure, sure, sure, unsure, none, sure], np.float32)
    paths = [
        ("A", "B"),
        ("A",),
        ("C",),
        ("A", "B"),
        ("C",),
        (),
    ]  # right, not judged, wrong, right, none, no label
    labels = [{"media": (path,) if path else ()} for path in paths]
    calibration = {"media": Calibration(1.0, (0.7, 0.7), 0.9, (9, 9))}
    (found,) = evaluate_suggestions(cast(Head, Given()), [tree], x, labels, calibration).values()
    assert found.model_dump() == {"images": 5, "suggested": 4, "listed": 0, "judged": 3, "right": 2}
    assert found.coverage == 0.8


def test_several_truths_and_short_ones(tree: Tree) -> None:
    labels: list[dict[str, tuple[TaxonomyPath, ...]]]
    labels = [{"media": (("bath",), ("tools", "tools-a"))}, {"media": (("pipes",),)}, {"media": ()}]
    evaluation = evaluate_predictions(tree, labels, [("tools", "tools-b"), ("bath", "bath-a"), ("bath",)])
    assert evaluation is not None
    first, second = evaluation.levels
    assert first.matrix.sum() == 2
    assert {row.name for row in first.classes if row.support} == {"tools", "pipes"}  # the truth that was hit counts
    assert second.matrix.sum() == 1  # the pipe's truth stops above level 2
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_both_tables_of_the_report_use_one_definition_of_f1(tree: Tree) -> None:
    """Also where images have several true nodes, or a prediction ends above the level."""
    labels = random_labels(tree, 60, 0)
    pairs = zip(labels[:30], labels[30:], strict=True)
    labels = [*labels, *({"media": (*first["media"], *second["media"])} for first, second in pairs)]
    predictions: list[TaxonomyPath | None] = [label["media"][0] for label in random_labels(tree, len(labels), 1)]
    predictions[::7] = [None] * len(predictions[::7])
    evaluation = evaluate_predictions(tree, labels, predictions)
    assert evaluation is not None
    for level, figures in zip(evaluation.levels, evaluation.metrics.levels, strict=True):
        f1 = [row.f1 for row in level.classes if row.name != NO_PREDICTION]
        assert figures.macro_f1 == pytest.approx(sum(f1) / len(f1))
        assert level.matrix.sum() == figures.support == sum(row.support for row in level.classes)
        assert level.matrix.trace() / figures.support == pytest.approx(figures.accuracy)


def test_no_prediction_is_a_column_of_its_own(tree: Tree) -> None:
    evaluation = evaluate_predictions(tree, [{"media": (("bath",),)}], [None])
    assert evaluation is not None
    assert [row.name for row in evaluation.levels[0].classes] == ["(none)", "bath"]


def test_head_with_two_controls(tree: Tree) -> None:
    other = Tree("other", "image", "choices", (("x",), ("y",)))
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    head = HeadWeights(
        zeros, ones, np.eye(2, dtype=np.float32), zeros, np.zeros((11, 2), np.float32), np.arange(11, dtype=np.float32),
        (("media", 9), ("other", 2)),
    )  # fmt: skip
    x = np.zeros((2, 2), np.float32)
    found = evaluate(head, [tree, other], x, [{"media": (("pipes", "pipes-b"),)}, {"media": (("bath",),)}])
    assert list(found) == ["media"]
    assert found["media"].metrics.levels[1].accuracy == 1
    assert evaluate(head, [tree, other], x[:0], []) == {}


@pytest.mark.parametrize("count", [2, 45])
def test_confusion_plot(tmp_path: Path, count: int) -> None:
    names = [f"$Beton | 浴室 \n {i}" for i in range(count)]  # mathematics, other scripts and line breaks are only text
    tree = Tree("media", "image", "taxonomy", tuple((name,) for name in names))
    labels = [{"media": (path,)} for path in tree.paths]
    evaluation = evaluate_predictions(tree, labels, tree.paths[::-1])
    assert evaluation is not None
    plot_confusion(evaluation.levels[0], "$media, 浴室", tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        image.load()
        assert min(image.size) >= 300


def test_confusions_of_400_classes_are_a_list_and_a_small_matrix(tmp_path: Path) -> None:
    tree = Tree("media", "image", "taxonomy", tuple((f"class {i:03}",) for i in range(400)))
    # three of class 7 are taken for class 9, one of class 8 for class 7, and all others are right
    pairs = [(i, i) for i in range(400)] + [(7, 9)] * 3 + [(8, 7)]
    labels = [{"media": (tree.paths[true],)} for true, _ in pairs]
    evaluation = evaluate_predictions(tree, labels, [tree.paths[predicted] for _, predicted in pairs])
    assert evaluation is not None
    (level,) = evaluation.levels
    assert confusions(level) == [
        Confusion("class 007", "class 009", 3, 0.75),
        Confusion("class 008", "class 007", 1, 0.5),
    ]
    names, matrix = most_confused(level, 3)
    assert names == ["class 007", "class 008", "class 009", "397 other classes"]
    assert matrix.tolist() == [[1, 0, 3, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 397]]
    write_confusions(level, tmp_path / "confusions.csv")
    lines = (tmp_path / "confusions.csv").read_text().splitlines()
    assert lines[:3] == ["true,predicted,images,share_of_true", *_WRONG]
    assert len(lines) == 1 + 2 + 400


_WRONG = ("class 007,class 009,3,0.7500", "class 008,class 007,1,0.5000")


@pytest.mark.parametrize("validation", [0.5, float("nan")])
def test_curves_plot(tmp_path: Path, validation: float) -> None:
    curves = [Epoch(1 / (1 + i), i / 5, validation, validation, validation) for i in range(5)]
    plot_curves(curves, 2, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
    write_json(tmp_path / "curves.json", {"nan": float("nan"), "list": [(float("inf"), 1)]})
    assert json.loads((tmp_path / "curves.json").read_text()) == {"format": 1, "nan": None, "list": [[None, 1]]}
