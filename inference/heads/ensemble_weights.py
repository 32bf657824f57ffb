"""A head of two layers and a discriminant that answer together, saved with safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taxonomist.inference.heads.discriminant_weights import (
    NEWEST_FORMAT,
    Discriminant,
    DiscriminantHead,
    format_with_space,
    node_probabilities,
)
from taxonomist.inference.heads.head_weights import Array, HeadWeights
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree

ENSEMBLE = "ensemble"
_LAYERS, _DISCRIMINANT = "layers.", "discriminant."


@dataclass(frozen=True)
class EnsembleHead:
    """P(path) is the mean of those of both heads, and 0 where the discriminant has learned nothing.

    Temperatures are in the arrays; those of callers are not used. Releases without ensembles cannot read the file, and
    say so.
    """

    layers: HeadWeights
    discriminant: DiscriminantHead

    @property
    def dimension(self) -> int:
        """See `Head.dimension`."""
        return self.discriminant.dimension

    def log_probabilities(
        self,
        x: Array,
        trees: Mapping[str, Tree],
        temperatures: Mapping[str, float],  # noqa: ARG002 - they are in the weights
    ) -> dict[str, FloatArray]:
        """See `Head.log_probabilities`."""
        layers = self.layers.log_probabilities(x, trees, {})
        discriminants = self.discriminant.log_probabilities(x, trees, {})
        means: dict[str, FloatArray] = {}
        for control, discriminant in self.discriminant.discriminants.items():
            mean = mean_probabilities(discriminant, np.exp(layers[control]), np.exp(discriminants[control]))
            with np.errstate(divide="ignore"):
                means[control] = np.log(mean)
        return means

    def save(self, path: Path) -> None:
        """See `Head.save`."""
        parts: tuple[tuple[str, Mapping[str, npt.NDArray[Any]]], ...] = (
            (_LAYERS, self.layers.arrays()),
            (_DISCRIMINANT, self.discriminant.arrays()),
        )
        arrays = {part + name: array for part, named in parts for name, array in named.items()}
        about = {FORMAT: 1, "layers": self.layers.controls, "discriminant": list(self.discriminant.discriminants)}
        about |= format_with_space(self.discriminant.inside)
        path.write_bytes(save(arrays, metadata={ENSEMBLE: json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> EnsembleHead:
        """Return the head in the file. Raises `DamagedError` when `save` did not write it."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})[ENSEMBLE])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            check_format(path, int(about[FORMAT]), newest=NEWEST_FORMAT)
            layers, discriminant = (
                {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
                for part in (_LAYERS, _DISCRIMINANT)
            )
            head = cls(
                HeadWeights.of(layers, about["layers"], path),
                DiscriminantHead.of(discriminant, about["discriminant"], path, about.get("space", ())),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not a readable head: {error}") from error
        nodes = {control: len(found.parents) for control, found in head.discriminant.discriminants.items()}
        if head.layers.dimension != head.dimension or not nodes.items() <= dict(head.layers.controls).items():
            raise DamagedError(f"{path} holds heads that do not fit together.")
        return head


def mean_probabilities(discriminant: Discriminant, layers: FloatArray, found: FloatArray) -> FloatArray:
    """Return the mean of P(path) (n, nodes) of two layers and of a discriminant, 0 where this has learned nothing."""
    mean: FloatArray = (layers + found) / 2 * learned_nodes(discriminant)
    return mean


def learned_nodes(discriminant: Discriminant) -> Array:
    """Return (nodes,) float32: 1 for the nodes of which a discriminant has learned, 0 for the others."""
    even = np.zeros((1, len(discriminant.nodes)), np.float32)
    learned: Array = (node_probabilities(even, discriminant.nodes, discriminant.parents)[0] > 0).astype(np.float32)
    return learned
