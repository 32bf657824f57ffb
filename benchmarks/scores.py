"""Scores of an embedding on products that it was not trained on: linear probes and retrieval."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler

from benchmarks.catalogue import Catalogue
from taxonomist.training.backbones.backbone import Backbone
from taxonomist.training.pretraining.probe import embed

SCORES = ("macro_f1", "accuracy", "level2_macro_f1", "level2_accuracy", "retrieval")


def linear_probe(
    x: NDArray[np.float32], y: NDArray[np.int64], test_x: NDArray[np.float32], test_y: NDArray[np.int64]
) -> dict[str, float]:
    """Return accuracy and macro-F1 of a logistic regression: fitted on `x` (n, d), tested on `test_x` (m, d)."""
    guess = probe(x, y, test_x)
    return {
        "accuracy": float(accuracy_score(test_y, guess)),
        "macro_f1": float(f1_score(test_y, guess, average="macro", zero_division=0)),
    }


def probe(x: NDArray[np.float32], y: NDArray[np.int64], test_x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the classes (m,) of `test_x` (m, d) by a balanced logistic regression that is fitted on `x` (n, d)."""
    scaler = StandardScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced").fit(scaler.transform(x), y)
    guess: NDArray[np.int64] = model.predict(scaler.transform(test_x))
    return guess


def retrieval(x: NDArray[np.float32], products: NDArray[np.int64]) -> float:
    """Return the share of images whose nearest other image shows the same product (R@1)."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return float((products[cosines.argmax(1)] == products).mean())


def judge(embedding: Any, train: Catalogue, test: Catalogue) -> dict[str, float]:
    """Return all scores of `embedding`, a function from images (n, size, size, 3) to vectors (n, d)."""
    x, test_x = embedding(train.images), embedding(test.images)
    known = np.isin(test.kinds, train.kinds)
    second = linear_probe(x, train.kinds, test_x[known], test.kinds[known])
    return {
        **linear_probe(x, train.labels, test_x, test.labels),
        "level2_accuracy": second["accuracy"],
        "level2_macro_f1": second["macro_f1"],
        "retrieval": retrieval(test_x, test.products),
    }


def embedding_of(module: Backbone) -> Any:
    """Return the function from images to vectors of a backbone."""
    encoder = module.encoder.to(memory_format=torch.channels_last)
    return lambda images: embed(encoder, module.architecture, images, torch.device("cpu")).numpy()


def pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the images at 16x16 pixels, (n, 768), in 0..1."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(x, (16, 16), mode="area").flatten(1).div(255).numpy()
