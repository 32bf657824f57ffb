"""Scores of a run of `benchmarks.recipes`: quick ones while it trains, those of the table afterwards."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_RIDGE = 0.3  # of the number of images: how much the quick probe is regularised


class ScoresOfRun:
    """The scores of a run at each of its points, and the embeddings of its best and its last one."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.best = 0
        self._best_vectors: Tensor | None = None
        self._last_vectors: Tensor | None = None

    def add(self, point: dict[str, float], vectors: Tensor) -> None:
        """Add the scores of a point with its embeddings (n, d)."""
        self.points.append(point)
        self._last_vectors = vectors.cpu()
        if self._best_vectors is None or point["held_out"] > self.points[self.best]["held_out"]:
            self.best, self._best_vectors = len(self.points) - 1, self._last_vectors

    def moments(self) -> dict[str, Tensor]:
        """Return the embeddings (n, d) of the best point and of the last one."""
        assert self._best_vectors is not None
        assert self._last_vectors is not None
        return {"best": self._best_vectors, "last": self._last_vectors}


def quick_scores(
    vectors: Tensor, labels: NDArray[np.int64], products: NDArray[np.int64], parts: dict[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Return R@1 and the macro-F1 of a ridge regression, and the mean of both, on held-out and on tested products.

    The regression learns from the images of `parts["learn"]` that are not held out. R@1 is also computed on as many
    products that are trained on (`parts["trained"]`) as tested ones (`parts["unseen"]`): the difference is learned by
    heart.
    """
    found: dict[str, float] = {}
    learn = torch.from_numpy(parts["learn"] & ~parts["held_out"]).to(vectors.device)
    y = torch.from_numpy(labels).to(vectors.device)
    groups = torch.from_numpy(products).to(vectors.device)
    mean, std = vectors[learn].mean(0), vectors[learn].std(0) + 1e-6
    x = (vectors - mean) / std
    count = torch.bincount(y[learn], minlength=int(y.max()) + 1)
    weight = (learn.sum() / (count.clamp(min=1) * (count > 0).sum()))[y[learn]][:, None]
    target = one_hot(y[learn], len(count)).float() * 2 - 1
    xs = x[learn]
    gram = xs.T @ (weight * xs)
    gram += _RIDGE * len(xs) * torch.eye(len(gram), device=gram.device)
    guess = (x @ torch.linalg.solve(gram, xs.T @ (weight * (target - target.mean(0)))) + target.mean(0)).argmax(1)
    unit = normalize(vectors, dim=1)
    for part in ("held_out", "test", "trained", "unseen"):
        rows = torch.from_numpy(parts[part]).to(vectors.device)
        found[f"{part}_retrieval"] = _retrieval(unit[rows], groups[rows])
        if part in {"held_out", "test"}:
            found[f"{part}_macro_f1"] = macro_f1(guess[rows], y[rows])
            found[part] = (found[f"{part}_retrieval"] + found[f"{part}_macro_f1"]) / 2
    return found


def _retrieval(unit: Tensor, groups: Tensor) -> float:
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-2)
    return float((groups[cosines.argmax(1)] == groups).float().mean())


def macro_f1(guess: Tensor, truth: Tensor) -> float:
    """Return the mean F1 of the classes in `truth` (n,) or `guess` (n,)."""
    scores = []
    for label in torch.unique(torch.cat([guess, truth])):
        hits = ((guess == label) & (truth == label)).sum()
        scores.append(2 * hits / ((guess == label).sum() + (truth == label).sum()))
    return float(torch.stack(scores).mean())


def all_scores(
    vectors: Tensor,
    labels: NDArray[np.int64],
    kinds: NDArray[np.int64],
    products: NDArray[np.int64],
    learn: NDArray[np.bool_],
    test: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return the scores of the table: linear probes of both levels, and R@1, on tested products. For a pool."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    from benchmarks.scores import linear_probe, retrieval

    x = vectors.float().numpy()
    known = test & np.isin(kinds, kinds[learn])
    second = linear_probe(x[learn], kinds[learn], x[known], kinds[known])
    return {
        **linear_probe(x[learn], labels[learn], x[test], labels[test]),
        "level2_accuracy": second["accuracy"],
        "level2_macro_f1": second["macro_f1"],
        "retrieval": retrieval(x[test], products[test]),
    }
