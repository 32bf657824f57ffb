"""Evaluation of a head on images that it has not seen: tree metrics, classification reports, confusion matrices."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.discriminant_weights import DiscriminantHead
from taxonomist.inference.heads.fusion import MOST_IMAGES, Fusion, mean_features
from taxonomist.inference.heads.head import Head
from taxonomist.storage.registry.manifests import SuggestionFigures
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.path_probabilities import FloatArray, path_log_probabilities, row_blocks
from taxonomist.taxonomy.paths import TaxonomyPath, format_path
from taxonomist.taxonomy.suggestion import Suggestion, suggest_each
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import NodeScores, TreeMetrics, count_level, evaluate_paths
from taxonomist.training.heads.data.targets import Labels

NO_PREDICTION = "(none)"


@dataclass(frozen=True)
class ClassReport:
    """One row of a classification report; precision, recall and F1 are 0 to 1."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class LevelReport:
    """Classification report and confusion matrix at one level, over the images whose truth reaches it.

    `classes` are the nodes that are true or predicted anywhere; the mean of their F1 is the level's macro-F1. Where
    some image has no prediction at the level, the first one is `NO_PREDICTION`, which is no class of macro-F1.
    `matrix` is int (classes, classes): rows are true, columns predicted. An image with several true nodes is in the row
    of the one that was predicted, else of the first, and counts in that row's support alone.
    """

    level: int
    classes: tuple[ClassReport, ...]
    matrix: npt.NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values; the matrix as [true, predicted, count] of its cells that are not zero."""
        rows, columns = np.nonzero(self.matrix)
        cells = np.stack([rows, columns, self.matrix[rows, columns]], axis=1).tolist()
        return {"level": self.level, "classes": [asdict(row) for row in self.classes], "confusion": cells}


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a head on some images, for one control; a report for each level that some image reaches."""

    metrics: TreeMetrics
    levels: tuple[LevelReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"metrics": self.metrics.to_json(), "levels": [level.to_json() for level in self.levels]}


def evaluate(
    head: Head, trees: Sequence[Tree], x: npt.NDArray[np.float32], labels: Sequence[Labels]
) -> dict[str, Evaluation]:
    """Return, by control, the evaluation of the head's predictions for embeddings `x` (n, d) against the `labels`.

    Every prediction is a path down to the deepest node that the head knows, whatever its probability: the calibration
    decides how deep a suggestion goes. Controls that no image has a label for are omitted. Labels must be in the trees.
    """
    by_control = {tree.control: tree for tree in trees}
    found: dict[str, list[TaxonomyPath]] = {}
    for rows in row_blocks(len(x), sum(map(len, trees))):
        for control, scores in head.log_probabilities(x[rows], by_control, {}).items():
            found.setdefault(control, []).extend(most_likely_paths(by_control[control], scores))
    evaluations = {}
    for tree in trees:
        predictions = found.get(tree.control, [None] * len(x))
        if evaluation := evaluate_predictions(tree, labels, predictions):
            evaluations[tree.control] = evaluation
    return evaluations


def evaluate_predictions(
    tree: Tree, labels: Sequence[Labels], predictions: Sequence[TaxonomyPath | None]
) -> Evaluation | None:
    """Return the evaluation of one predicted path (or None) per image; None when the control has no labels."""
    truths = [label.get(tree.control, ()) for label in labels]
    if not any(truths):
        return None
    levels = (_level_report(level, truths, predictions) for level in range(1, tree.depth + 1))
    return Evaluation(evaluate_paths(tree, truths, predictions), tuple(level for level in levels if level))


@dataclass(frozen=True)
class Together:
    """The metrics of images that have others of their product, predicted alone and together with these."""

    images: int
    alone: TreeMetrics
    together: TreeMetrics


def evaluate_together(
    head: Head,
    fusions: Mapping[str, Fusion],
    trees: Sequence[Tree],
    x: npt.NDArray[np.float32],
    labels: Sequence[Labels],
    groups: Sequence[str | None],
) -> dict[str, Together]:
    """Return, by control with a fusion, the evaluation of the images of `groups` (products) with several.

    `x` (n, d) are the embeddings of n images, `labels` and `groups` theirs; None is an image without a product.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group:
            members.setdefault(group, []).append(row)
    several = [(row, rows) for rows in members.values() if len(rows) > 1 for row in rows]
    rows = [row for row, _ in several]
    if not rows or not isinstance(head, DiscriminantHead):
        return {}
    truths = [labels[row] for row in rows]
    found = {}
    for tree in trees:
        if fusion := fusions.get(tree.control):
            discriminant = head.discriminants[tree.control]
            paths: tuple[list[TaxonomyPath], list[TaxonomyPath]] = ([], [])
            for block in row_blocks(len(rows), len(tree)):
                own = x[rows[block]]
                others = [
                    x[[other for other in images if other != row][: MOST_IMAGES - 1]] for row, images in several[block]
                ]
                values = (
                    discriminant.probabilities(own),
                    fusion.probabilities(discriminant, tree, own, *mean_features(own, others, discriminant.space)),
                )
                for predicted, value in zip(paths, values, strict=True):
                    with np.errstate(divide="ignore"):
                        predicted += most_likely_paths(tree, np.log(value))
            alone, together = (evaluate_predictions(tree, truths, predicted) for predicted in paths)
            if alone and together:
                found[tree.control] = Together(len(rows), alone.metrics, together.metrics)
    return found


def evaluate_suggestions(
    head: Head,
    trees: Sequence[Tree],
    x: npt.NDArray[np.float32],
    labels: Sequence[Labels],
    calibration: Mapping[str, Calibration],
) -> dict[str, SuggestionFigures]:
    """Return, by control, what is suggested for the images with a label, and how much of it is right.

    The arguments are those of `evaluate`, and the calibrations by control.
    """
    temperatures = {control: values.temperature for control, values in calibration.items()}
    by_control = {tree.control: tree for tree in trees}
    counts: dict[str, Counter[str]] = {}
    for rows in row_blocks(len(x), sum(map(len, trees))):
        for control, scores in head.log_probabilities(x[rows], by_control, temperatures).items():
            suggestions = suggest_each(by_control[control], np.exp(scores), calibration[control])
            for label, suggestion in zip(labels[rows], suggestions, strict=True):
                if paths := label.get(control):
                    counts.setdefault(control, Counter()).update(_became(paths, suggestion))
    return {control: SuggestionFigures(**{name: found[name] for name in _BECAME}) for control, found in counts.items()}


_BECAME = ("images", "suggested", "listed", "judged", "right")


def _became(paths: Collection[TaxonomyPath], suggestion: Suggestion | None) -> Iterator[str]:
    """Yield what counts for an image with these labels."""
    yield "images"
    if suggestion is None:
        return
    if suggestion.shortlist:
        yield "listed"
        return
    yield "suggested"
    path = suggestion.path
    is_right = any(label[: len(path)] == path for label in paths)
    if is_right or not any(path[: len(label)] == label for label in paths):
        yield "judged"
        if is_right:
            yield "right"


def predict_paths(tree: Tree, logits: npt.NDArray[np.float32]) -> list[TaxonomyPath]:
    """Return for logits (n, nodes) the leaves that are reached by the most likely child at each level."""
    return most_likely_paths(tree, path_log_probabilities(logits, tree))


def most_likely_paths(tree: Tree, scores: FloatArray) -> list[TaxonomyPath]:
    """Return for log P(path) (n, nodes) the paths of the most likely child at each level.

    They end at leaves, or above nodes that all have -inf.
    """
    chosen: npt.NDArray[np.intp] = np.full(len(scores), -1)
    for level in range(1, tree.depth + 1):
        nodes = np.flatnonzero(tree.levels == level)
        eligible = tree.parents[nodes][None, :] == chosen[:, None]  # (n, nodes of the level): children of the chosen
        eligible &= scores[:, nodes] > -np.inf
        best = nodes[np.where(eligible, scores[:, nodes], -np.inf).argmax(axis=1)]
        chosen = np.where(eligible.any(axis=1), best, chosen)
    return [tree.paths[node] for node in chosen]


def _level_report(
    level: int, truths: Sequence[Sequence[TaxonomyPath]], predictions: Sequence[TaxonomyPath | None]
) -> LevelReport | None:
    pairs = []
    for paths, prediction in zip(truths, predictions, strict=True):
        true = [path[:level] for path in paths if len(path) >= level]
        if true:
            guess = (prediction or ())[:level] if len(prediction or ()) >= level else ()
            # Of several true nodes the one that was predicted counts, else the first.
            pairs.append((guess if guess in true else true[0], guess))
    if not pairs:
        return None
    scores = count_level(level, truths, predictions).scores()
    names = sorted(scores.keys() | {guess for _, guess in pairs})
    index = {path: number for number, path in enumerate(names)}
    true_index, guess_index = (np.array([index[pair[side]] for pair in pairs]) for side in (0, 1))
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (true_index, guess_index), 1)
    none = NodeScores(0.0, 0.0, 0.0)
    classes = tuple(
        ClassReport(format_path(path) or NO_PREDICTION, node.precision, node.recall, node.f1, int(support))
        for node, path, support in zip((scores.get(path, none) for path in names), names, matrix.sum(1), strict=True)
    )
    return LevelReport(level, classes, matrix)


def evaluate_apart(
    head: Head,
    trees: Sequence[Tree],
    x: npt.NDArray[np.float32],
    labels: Sequence[Labels],
    prefilled: Sequence[Collection[str]],
) -> dict[str, dict[str, TreeMetrics]]:
    """Return the metrics by control of labels whose annotators saw a suggestion ("pre-filled") and of others
    ("unfilled"), {} where none did.

    `prefilled` has of each image the controls with a suggestion; the other arguments are those of `evaluate`.
    """
    if not any(prefilled):
        return {}
    found = {}
    for name, is_prefilled in (("pre-filled", True), ("unfilled", False)):
        own = [
            {control: paths for control, paths in label.items() if (control in shown) == is_prefilled}
            for label, shown in zip(labels, prefilled, strict=True)
        ]
        found[name] = metrics_of(evaluate(head, trees, x, own))
    return found


def metrics_of(evaluations: Mapping[str, Evaluation]) -> dict[str, TreeMetrics]:
    """Return the metrics alone, by control."""
    return {control: evaluation.metrics for control, evaluation in evaluations.items()}
