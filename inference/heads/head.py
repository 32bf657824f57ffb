"""What serves a project: a head turns embeddings into probabilities of the paths of each control."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open

from taxonomist.inference.heads.discriminant_weights import DiscriminantHead
from taxonomist.inference.heads.ensemble_weights import ENSEMBLE, EnsembleHead
from taxonomist.inference.heads.head_weights import HEAD_FILE, Array, HeadWeights
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree

__all__ = ["HEAD_FILE", "Head", "load_head"]


class Head(Protocol):
    """A head, whatever it was trained with."""

    @property
    def dimension(self) -> int:
        """The length d of the embeddings that the head takes."""
        ...

    def log_probabilities(
        self, x: Array, trees: Mapping[str, Tree], temperatures: Mapping[str, float]
    ) -> dict[str, FloatArray]:
        """Return, by control, log P(path) of every node, shape (n, nodes), for embeddings `x` (n, d).

        A control without a temperature has 1. A node about which nothing was learned may have -inf. Raises ValueError
        when a tree does not fit.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the file: equal heads give equal bytes. Not atomic, since a version is staged as a whole folder."""
        ...


def load_head(path: Path) -> Head:
    """Return the head in a file. Raises `DamagedError` for a file that no head has written."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{path} is not a readable head: {error}") from error
    if ENSEMBLE in metadata:
        return EnsembleHead.load(path)
    return DiscriminantHead.load(path) if "discriminant" in metadata else HeadWeights.load(path)
