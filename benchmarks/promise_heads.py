"""One split of the table of heads: those of the product, logistic regression and nearest neighbours."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from benchmarks.promise_catalogue import CONTROL, Catalogue
from benchmarks.promise_rules import Images, fit, train_today
from taxonomist.inference.heads.discriminant_weights import DiscriminantHead, node_probabilities
from taxonomist.inference.heads.ensemble_weights import EnsembleHead, mean_probabilities
from taxonomist.inference.heads.features import features
from taxonomist.progress import ignore_steps
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree
from taxonomist.taxonomy.tree_metrics import evaluate_paths
from taxonomist.training.heads.data.targets import HeadData, Labels, Outputs, nodes_of, scored
from taxonomist.training.heads.discriminant.fit_discriminant import FittedDiscriminant
from taxonomist.training.heads.ensemble import train_members
from taxonomist.training.heads.evaluation import most_likely_paths
from taxonomist.training.heads.head_options import HeadOptions

STRENGTHS = (0.001, 0.01, 0.1)  # C of the logistic regression
_FOLDS = 3
_NEIGHBOURS, _SHARPNESS, _PRIOR_SHARE = 10, 10.0, 0.2
_CLIP = 1e-4  # P of a label in the log-loss
Classify = Callable[[Images, Images, Tree, int], FloatArray]
"""From images to learn from, images to test on, tree and seed to P(path) of the latter, (n, nodes)."""


def run_heads(catalogue: Catalogue, *, labels: int, test_share: float, seed: int) -> dict[str, Any]:
    """Return hierarchical F1, log-loss and seconds of processor time of each head."""
    learning, testing = Images.split(catalogue, labels, test_share, seed)
    rows = []
    for name, classify in HEADS.items():
        began = time.process_time()
        probabilities = classify(learning, testing, catalogue.tree, seed)
        seconds = time.process_time() - began
        f1, loss = scores(learning, testing, catalogue.tree, probabilities)
        rows.append({"head": name, "f1": f1, "loss": loss, "seconds": round(seconds, 6)})
    return {"rows": rows}


def scores(learning: Images, testing: Images, tree: Tree, probabilities: FloatArray) -> tuple[float, float]:
    """Return the hierarchical F1 of the most likely paths, and the log-loss of the labels.

    Labels are cut to the nodes that the labels of `learning` name; an image without such a node is left out.
    """
    labels = [_labels(images) for images in (learning, testing)]
    truths = [label.get(CONTROL, ()) for label in scored(labels[1], nodes_of(labels[0]))]
    with np.errstate(divide="ignore"):
        paths = most_likely_paths(tree, np.log(probabilities))
    known = [(row, tree.index[path]) for row, (path,) in ((row, truth) for row, truth in enumerate(truths) if truth)]
    rows, nodes = np.array(known, np.int64).T
    loss = -np.log(np.maximum(probabilities[rows, nodes], _CLIP)).mean()
    return evaluate_paths(tree, truths, paths).hierarchical_f1, float(loss)


def _labels(images: Images) -> list[Labels]:
    return [{CONTROL: paths} for paths in images.truths]


def _mlp(learning: Images, testing: Images, tree: Tree, seed: int) -> FloatArray:
    head = train_today(learning, tree, seed)
    return head.probabilities(testing.x, tree, head.calibration(tree, 0.9))


def _lda(learning: Images, testing: Images, tree: Tree, _seed: int) -> FloatArray:
    return fit(learning, tree).weights.probabilities(testing.x)


def fit_ensemble(
    learning: Images, tree: Tree, fitted: FittedDiscriminant, seed: int
) -> tuple[EnsembleHead, FloatArray]:
    """Return the product's ensemble, and P(path) (n, nodes) that it predicts for images without their products.

    `fitted` is the discriminant of the same images.
    """
    outputs, rows = Outputs((tree,)), range(len(learning.paths))
    data = HeadData.plain(learning.x, outputs.encode(_labels(learning)))
    options = HeadOptions(threads=1, seed=seed)
    members = train_members(data, learning.products, outputs, options, ignore_steps)
    temperature = members.temperature(tree, rows, learning.truths)
    theirs = members.held_out_probabilities(tree, rows, temperature)
    head = EnsembleHead(members.merged({CONTROL: temperature}), DiscriminantHead({CONTROL: fitted.weights}))
    return head, mean_probabilities(fitted.weights, theirs, fitted.held_out)


def _ensemble(learning: Images, testing: Images, tree: Tree, seed: int) -> FloatArray:
    head, _ = fit_ensemble(learning, tree, fit(learning, tree), seed)
    return np.exp(head.log_probabilities(testing.x, {CONTROL: tree}, {})[CONTROL])


def _logistic(learning: Images, testing: Images, tree: Tree, _seed: int) -> FloatArray:
    folds = list(GroupKFold(_FOLDS).split(learning.x, groups=learning.products))
    losses = {}
    for strength in STRENGTHS:
        parts = [(learning.some(training), learning.some(held_out)) for training, held_out in folds]
        losses[strength] = sum(
            scores(some, others, tree, _flat(some, others.x, tree, strength))[1] * len(others.paths)
            for some, others in parts
        )
    return _flat(learning, testing.x, tree, min(losses, key=lambda strength: losses[strength]))


def _flat(learning: Images, x: NDArray[np.float32], tree: Tree, strength: float) -> FloatArray:
    """Return P(path) by one softmax over the nodes at which labels stop."""
    scaler = StandardScaler().fit(learning.x)
    nodes = np.array([tree.index[path] for path in learning.paths])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 300 steps are enough (benchmarks/scores.py)
        model = LogisticRegression(C=strength, max_iter=300).fit(scaler.transform(learning.x), nodes)
    logarithms = np.asarray(model.predict_log_proba(scaler.transform(x)), np.float32)
    return node_probabilities(logarithms, model.classes_.astype(np.int64), tree.parents.astype(np.int64))


def _neighbours(learning: Images, testing: Images, tree: Tree, _seed: int) -> FloatArray:
    """Return P(path) by the votes of the nearest images by cosine, mixed with the shares of the classes."""
    shown, asked = features(learning.x), features(testing.x)
    centre = shown.mean(axis=0)
    shown, asked = (vectors - centre for vectors in (shown, asked))
    shown, asked = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (shown, asked))
    cosines = asked @ shown.T
    count = min(_NEIGHBOURS, len(shown))
    nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    votes = np.exp(_SHARPNESS * np.take_along_axis(cosines, nearest, axis=1))
    votes /= votes.sum(axis=1, keepdims=True)
    nodes = np.array([tree.index[path] for path in learning.paths])
    classes, inverse, sizes = np.unique(nodes, return_inverse=True, return_counts=True)
    shares = np.tile(_PRIOR_SHARE * sizes / len(nodes), (len(asked), 1))
    np.add.at(shares, (np.arange(len(asked))[:, None], inverse[nearest]), (1 - _PRIOR_SHARE) * votes)
    return node_probabilities(np.log(shares).astype(np.float32), classes, tree.parents.astype(np.int64))


HEADS: Mapping[str, Classify] = {
    "mlp": _mlp,
    "lda": _lda,
    "ensemble": _ensemble,
    "logistic": _logistic,
    "kNN": _neighbours,
}
