"""Compares a challenger with the champion on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from taxonomist.inference.heads.head import HEAD_FILE, Head, load_head
from taxonomist.storage.embeddings import Embeddings
from taxonomist.storage.registry import ModelVersion, Registry
from taxonomist.taxonomy.calibration import Calibration
from taxonomist.taxonomy.comparison import PairedComparison, PathScores, compare_paired, path_scores
from taxonomist.taxonomy.errors import ConfigError, DamagedError, NotFoundError
from taxonomist.taxonomy.path_probabilities import FloatArray, row_blocks
from taxonomist.taxonomy.paths import TaxonomyPath
from taxonomist.taxonomy.tree import IntArray, Tree
from taxonomist.training.heads.data.dataset import Example
from taxonomist.training.heads.data.trained_on import TrainedOn, images_with_labels_of, trained_on
from taxonomist.training.heads.evaluation import Evaluation, evaluate_predictions, most_likely_paths
from taxonomist.training.heads.promotion.decision import (
    Decision,
    decide_promotion,
    decide_without_comparison,
    with_caveats,
)


@dataclass(frozen=True)
class Predictions:
    """What a head predicts for n images of one control, in the names that its nodes have now.

    `paths` (n,) are the most likely ones, `nodes` those of the columns of `log_probabilities` (n, nodes). A node that
    is possible for no image has no column.
    """

    paths: tuple[TaxonomyPath, ...]
    nodes: tuple[TaxonomyPath, ...]
    log_probabilities: FloatArray

    def some(self, rows: Sequence[int]) -> Predictions:
        """Return those for some of the images."""
        return Predictions(tuple(self.paths[row] for row in rows), self.nodes, self.log_probabilities[list(rows)])


PredictionsByControl = Mapping[str, Predictions]
"""By the control's name of now; a control that the head does not know is missing."""


@dataclass(frozen=True)
class ChampionComparison:
    """`champion` is its evaluation on all test images, None when there is none; `version` is the champion's.

    `left_out` test images took no part in the comparison, since the champion has learned from their products.
    """

    champion: Mapping[str, Evaluation] | None
    decision: Decision
    version: str | None = None
    left_out: int = 0


def compare_with_champion(
    registry: Registry,
    name: str,
    trees: Sequence[Tree],
    test: Sequence[Example],
    challenger: PredictionsByControl,
    stores: Mapping[str, Embeddings],
    *,
    images: int,
    drawn_again: bool = False,
) -> ChampionComparison:
    """Return whether the challenger, which predicts this for the images of `test`, may replace the champion of `name`.

    The challenger has learned from so many `images`; of those that the champion has learned from, the ones count whose
    label still has a node. Test images of products that the champion has learned from are
    left out of the comparison. There is none where no test image is left, or where the test part was `drawn_again`.
    `stores` are the embeddings by version of the backbone. Both are scored on today's taxonomy: where it has changed
    since the champion was trained, labels that the champion does not know count against it, as they would in serving. A
    champion that cannot be read is replaced.
    """
    champion_version = registry.champion(name)
    if champion_version is None:
        return ChampionComparison(None, decide_promotion(None))
    try:
        version = registry.get(name, champion_version)
        products = _learned(trained_on(version), test)
        known = sum(example.product in products for example in test)
        rows = [row for row, example in enumerate(test) if example.product not in products]
        unseen = [test[row] for row in rows]
        if drawn_again or (known and not any(example.labels for example in unseen)):
            decision = decide_without_comparison(champion_version, known, len(test), drawn_again=drawn_again)
            return ChampionComparison(None, decision, champion_version)
        champion = predict_by_champion(version, trees, unseen, stores)
        own = {control: predictions.some(rows) for control, predictions in challenger.items()}
        numbers = (images, images_with_labels_of(version, trees))
        figures = compare(trees, unseen, own, champion, numbers) if champion is not None else None
        evaluations = evaluate_champion(champion, trees, unseen) if champion is not None and not known else None
    except (NotFoundError, DamagedError, ConfigError, KeyError, ValueError) as error:
        return ChampionComparison(
            None, Decision(True, f"The champion {champion_version} cannot be used: {error}"), champion_version
        )
    decision = decide_promotion(figures, champion_version=champion_version)
    if known and figures is not None:
        note = f"without {known} of products that {champion_version} has learned from"
        return ChampionComparison(None, with_caveats(decision, [note]), champion_version, known)
    return ChampionComparison(evaluations, decision, champion_version)


def predict_by_champion(
    version: ModelVersion, trees: Sequence[Tree], test: Sequence[Example], stores: Mapping[str, Embeddings]
) -> PredictionsByControl | None:
    """Return what a published head predicts for the test images; None without their embeddings.

    Raises DamagedError, ConfigError or KeyError when the version's files are not those of a head.
    """
    manifest = version.head_manifest
    head = load_head(version.path / HEAD_FILE)
    store = stores.get(manifest.backbone)
    if store is None:
        return None
    found, x = store.get([example.id for example in test])
    if not found.all():
        return None
    return predict(head, manifest.trees_by_control, trees, x, manifest.calibration)


def predict(
    head: Head,
    known: Mapping[str, Tree],
    trees: Sequence[Tree],
    x: npt.NDArray[np.float32],
    calibration: Mapping[str, Calibration],
) -> PredictionsByControl:
    """Return what a head predicts for embeddings (n, d), with the temperatures of its calibration.

    `known` are the trees that it was trained for, by control, and `trees` those of now, which say what was renamed.
    """
    temperatures = {control: values.temperature for control, values in calibration.items()}
    blocks: dict[str, list[_Block]] = {}
    for rows in row_blocks(len(x), sum(map(len, known.values()))):
        for name, values in head.log_probabilities(x[rows], known, temperatures).items():
            columns = np.flatnonzero((values > -np.inf).any(axis=0))
            block = _Block(most_likely_paths(known[name], values), columns, values[:, columns])
            blocks.setdefault(name, []).append(block)
    predictions = {}
    for tree in trees:
        control = next((name for name in (tree.control, *tree.former) if name in blocks), None)
        if control is not None:
            paths, nodes, scores = _joined(blocks[control])
            predictions[tree.control] = Predictions(
                tuple(map(tree.current, paths)),
                tuple(tree.current(known[control].paths[node]) for node in nodes),
                scores,
            )
    return predictions


class _Block(NamedTuple):
    """Of some images the likeliest paths, and log P(path) (n, columns) of the nodes that are possible for one."""

    paths: list[TaxonomyPath]
    columns: IntArray
    scores: FloatArray


def _joined(blocks: Sequence[_Block]) -> _Block:
    """Return several blocks as one: an array of all nodes of a large taxonomy would not fit into memory."""
    columns = np.unique(np.concatenate([block.columns for block in blocks]))
    scores = np.full((sum(len(block.paths) for block in blocks), len(columns)), -np.inf, blocks[0].scores.dtype)
    row = 0
    for block in blocks:
        scores[row : row + len(block.paths), np.searchsorted(columns, block.columns)] = block.scores
        row += len(block.paths)
    return _Block([path for block in blocks for path in block.paths], columns, scores)


def evaluate_champion(
    champion: PredictionsByControl, trees: Sequence[Tree], test: Sequence[Example]
) -> dict[str, Evaluation]:
    """Return the evaluation of the champion's predictions for the test images, by control."""
    labels = [example.labels for example in test]
    evaluations = {}
    for tree in trees:
        if tree.control in champion and (
            evaluation := evaluate_predictions(tree, labels, champion[tree.control].paths)
        ):
            evaluations[tree.control] = evaluation
    return evaluations


def compare(
    trees: Sequence[Tree],
    test: Sequence[Example],
    challenger: PredictionsByControl,
    champion: PredictionsByControl,
    learned: tuple[int, int] = (0, 0),
) -> PairedComparison:
    """Return the comparison on all labels of the test images, those of all controls together.

    `learned` are the numbers of images that challenger and champion have learned from, 0 for an unknown one.
    """
    scores: tuple[list[PathScores], list[PathScores]] = ([], [])
    products: list[str] = []
    for tree in trees:
        rows = [row for row, example in enumerate(test) if example.labels.get(tree.control)]
        truths = [test[row].labels[tree.control] for row in rows]
        products += [test[row].product for row in rows]
        for model, parts in zip((challenger, champion), scores, strict=True):
            if tree.control in model:
                own = model[tree.control].some(rows)
                parts.append(path_scores(truths, own.paths, own.nodes, own.log_probabilities))
            else:
                parts.append(path_scores(truths, [None] * len(rows), (), None))
    new, old = map(PathScores.concatenated, scores)
    return compare_paired(new, old, products, learned)


def _learned(learned: TrainedOn, test: Sequence[Example]) -> set[str]:
    """Return the products of the test images that are among what was learned."""
    return {example.product for example in test if learned.knows(example.id, example.file_hash, example.group)}
