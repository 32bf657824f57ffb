"""Confident learning, as it was published, for a comparison: Northcutt, Jiang and Chuang 2021,
https://doi.org/10.1613/jair.1.12125, sections 3.1 and 3.2. Written from the paper."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["self-confidence", "margin"]


def ranked(labels: NDArray[np.int64], probabilities: NDArray[np.float32], order: Order) -> NDArray[np.int64]:
    """Return all images, those that confident learning prunes by noise rate first.

    `labels` (n,) are classes, each with an image, and `probabilities` (n, classes) out-of-sample P(class). Within the
    pruned images, and after them, the lowest self-confidence, or the lowest margin over the likeliest class, is first.
    """
    own = probabilities[np.arange(len(labels)), labels]
    quality = own if order == "self-confidence" else own - probabilities.max(axis=1)
    is_pruned = pruned(labels, probabilities)
    rows: NDArray[np.int64] = np.lexsort((quality, ~is_pruned))
    return rows


def pruned(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which images are pruned, (n,): for each pair of classes as many as the calibrated confident joint has off
    its diagonal, those with the largest margin."""
    joint = confident_joint(labels, probabilities)
    found = np.zeros(len(labels), np.bool_)
    for given in range(len(joint)):
        rows = np.flatnonzero(labels == given)
        for true in np.flatnonzero(joint[given].round() > 0):
            if true != given and len(rows) > 1:
                margins = probabilities[rows, true] - probabilities[rows, given]
                found[rows[np.argsort(-margins, kind="stable")[: int(joint[given, true].round())]]] = True
    return found


def confident_joint(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (classes, classes): the images with a given label (row) that belong to a class (column).

    Rows are calibrated to the number of images with the label. An image counts for the likeliest of the classes whose
    probability reaches the mean self-confidence of the class.
    """
    count = probabilities.shape[1]
    images = np.bincount(labels, minlength=count)
    own = probabilities[np.arange(len(labels)), labels]
    thresholds = np.bincount(labels, own, count) / np.maximum(images, 1)
    reached = probabilities >= thresholds
    true = np.where(reached, probabilities, -1).argmax(axis=1)
    joint = np.zeros((count, count))
    np.add.at(joint, (labels[reached.any(axis=1)], true[reached.any(axis=1)]), 1)
    empty = np.flatnonzero(joint.sum(axis=1) == 0)
    joint[empty, empty] = 1
    calibrated: NDArray[np.float64] = joint / joint.sum(axis=1, keepdims=True) * images[:, None]
    return calibrated
