"""A head that is a linear discriminant on the classes of each tree, as numpy arrays."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taxonomist.inference.heads.features import Array, ProductProjection, features
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray
from taxonomist.taxonomy.tree import Tree

Indices = npt.NDArray[np.int64]
_ARRAYS = ("weight", "bias", "nodes", "parents")
_SPACE = ("mean", "matrix")
_FORMAT_WITH_SPACE = 2
NEWEST_FORMAT = 2


@dataclass(frozen=True)
class Discriminant:
    """The classes of one tree: log P(class) of an image is `features @ weight.T + bias`, up to a constant.

    weight (classes, k), bias (classes,), nodes (classes,): the node of each class. `parents` (nodes,) is that of the
    tree, -1 at level 1. A class is a node below which nothing was learned. Temperature and prior are in the arrays. The
    features (k,) are those in `space`, without one those of the embedding as it is.
    """

    weight: Array
    bias: Array
    nodes: Indices
    parents: Indices
    space: ProductProjection | None = None

    @property
    def dimension(self) -> int:
        """The length d of the embeddings that the discriminant takes."""
        return self.weight.shape[1] if self.space is None else len(self.space.mean)

    def probabilities(self, embeddings: Array) -> Array:
        """Return P(path) of every node, shape (n, nodes), for embeddings (n, d): 0 where nothing was learned."""
        return node_probabilities(
            features(embeddings, self.space) @ self.weight.T + self.bias, self.nodes, self.parents
        )

    def in_tree(self, part: Tree, whole: Tree) -> Discriminant:
        """Return the discriminant of a whole tree; this one is that of a part of its nodes."""
        if part is whole:
            return self
        nodes = np.array([whole.index[part.paths[node]] for node in self.nodes.tolist()], np.int64)
        return Discriminant(self.weight, self.bias, nodes, np.asarray(whole.parents, np.int64), self.space)


@dataclass(frozen=True)
class DiscriminantHead:
    """A discriminant for each control, saved with safetensors. It has its own temperature; that of callers is not used.

    Releases without discriminants cannot read the file, and say so. Those without spaces cannot read one with a space,
    and say so. All discriminants with a space have the same.
    """

    discriminants: Mapping[str, Discriminant]

    @property
    def dimension(self) -> int:
        """See `Head.dimension`."""
        return next(iter(self.discriminants.values())).dimension

    def log_probabilities(
        self,
        x: Array,
        trees: Mapping[str, Tree],
        temperatures: Mapping[str, float],  # noqa: ARG002 - its own are in the weights
    ) -> dict[str, FloatArray]:
        """See `Head.log_probabilities`."""
        found: dict[str, FloatArray] = {}
        for control, discriminant in self.discriminants.items():
            if not np.array_equal(trees[control].parents, discriminant.parents):
                raise ValueError(f"the tree of {control} is not the one that the head was trained for")
            with np.errstate(divide="ignore"):
                found[control] = np.log(discriminant.probabilities(x))
        return found

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the arrays by name."""
        arrays = {
            f"{number}.{name}": np.ascontiguousarray(getattr(discriminant, name))
            for number, discriminant in enumerate(self.discriminants.values())
            for name in _ARRAYS
        }
        if space := next((found.space for found in self.discriminants.values() if found.space), None):
            arrays |= {f"space.{name}": np.ascontiguousarray(getattr(space, name)) for name in _SPACE}
        return arrays

    @property
    def inside(self) -> list[str]:
        """The controls with a space; without any, the format of the file is 1."""
        return [control for control, found in self.discriminants.items() if found.space]

    def save(self, path: Path) -> None:
        """See `Head.save`."""
        # One entry only: safetensors writes several in an order that differs from call to call.
        about = {FORMAT: 1, "controls": list(self.discriminants)} | format_with_space(self.inside)
        metadata = {"discriminant": json.dumps(about)}
        path.write_bytes(save(self.arrays(), metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> DiscriminantHead:
        """Return the head in the file. Raises `DamagedError` when `save` did not write it."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = json.loads((file.metadata() or {})["discriminant"])
                check_format(path, int(metadata[FORMAT]), newest=NEWEST_FORMAT)
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return cls.of(arrays, metadata["controls"], path, metadata.get("space", ()))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not a readable head: {error}") from error

    @classmethod
    def of(
        cls, arrays: Mapping[str, Any], controls: Iterable[str], path: Path, inside: Collection[str] = ()
    ) -> DiscriminantHead:
        """Return the head of the arrays in a file; the controls `inside` have its space. Raises `DamagedError` when the
        arrays do not fit together, and KeyError when some are missing."""
        space = ProductProjection(*(arrays[f"space.{name}"] for name in _SPACE)) if inside else None
        found = {
            str(control): Discriminant(
                **{name: arrays[f"{number}.{name}"] for name in _ARRAYS}, space=space if control in inside else None
            )
            for number, control in enumerate(controls)
        }
        if not found or not all(map(_fits, found.values())) or len({head.dimension for head in found.values()}) > 1:
            raise DamagedError(f"{path} holds arrays that do not fit together.")
        return cls(found)


def format_with_space(inside: Sequence[str]) -> dict[str, Any]:
    """Return what the metadata of a file says besides where controls are `inside` a space: {} without any."""
    return {FORMAT: _FORMAT_WITH_SPACE, "space": list(inside)} if inside else {}


def _fits(discriminant: Discriminant) -> bool:
    weight, bias, nodes, parents = (getattr(discriminant, name) for name in _ARRAYS)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or nodes.shape != bias.shape or parents.ndim != 1:
        return False
    if (space := discriminant.space) and (
        space.mean.ndim != 1 or space.matrix.shape != (len(space.mean), weight.shape[1])
    ):
        return False
    are_nodes = len(nodes) > 0 and bool((nodes >= 0).all() and (nodes < len(parents)).all())
    return are_nodes and bool((parents < np.arange(len(parents))).all())


def node_probabilities(scores: Array, nodes: Indices, parents: Indices) -> Array:
    """Return P(path) of every node, shape (n, nodes): the sum of P(class) over the classes at or below it.

    `scores` (n, classes) are log P(class) up to a constant, the others as in `Discriminant`.
    """
    likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = np.zeros((len(scores), len(parents)), scores.dtype)
    probabilities[:, nodes] = likelihoods / likelihoods.sum(axis=1, keepdims=True)
    for node in sorted(_inner_first(nodes, parents), reverse=True):  # each parent comes before its children
        if parents[node] >= 0:
            probabilities[:, parents[node]] += probabilities[:, node]
    return probabilities


def _inner_first(nodes: Indices, parents: Indices) -> Mapping[int, None]:
    """Return the classes and all nodes above them."""
    found: dict[int, None] = {}
    for node in nodes.tolist():
        while node >= 0 and node not in found:
            found[node] = None
            node = int(parents[node])
    return found
