"""A trained head as numpy arrays, saved with safetensors. No torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError
from taxonomist.taxonomy.path_probabilities import FloatArray, path_log_probabilities
from taxonomist.taxonomy.tree import Tree

HEAD_FILE = "head.safetensors"
_ARRAYS = ("mean", "scale", "weight1", "bias1", "weight2", "bias2")
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadWeights:
    """Standardisation, linear layer, ReLU, linear layer (dropout has no effect outside training).

    mean, scale (d,); weight1 (hidden, d), bias1 (hidden,); weight2 (nodes, hidden), bias2 (nodes,). `controls` has the
    name and the number of nodes of each control, in the order of the outputs.
    """

    mean: Array
    scale: Array
    weight1: Array
    bias1: Array
    weight2: Array
    bias2: Array
    controls: tuple[tuple[str, int], ...]

    @property
    def dimension(self) -> int:
        """The length d of the embeddings that the head takes."""
        return len(self.mean)

    def outputs(self, x: Array) -> Array:
        """Return the logits (n, nodes) of all controls side by side, for embeddings `x` (n, d)."""
        hidden = ((x - self.mean) / self.scale) @ self.weight1.T + self.bias1
        logits: Array = np.maximum(hidden, 0) @ self.weight2.T + self.bias2
        return logits

    def logits(self, x: Array) -> dict[str, Array]:
        """Return, by control, the logits (n, nodes of the control) for embeddings `x` (n, d)."""
        outputs = self.outputs(x)
        stops = np.cumsum([nodes for _, nodes in self.controls])
        return {
            control: outputs[:, stop - nodes : stop]
            for (control, nodes), stop in zip(self.controls, stops, strict=True)
        }

    def log_probabilities(
        self, x: Array, trees: Mapping[str, Tree], temperatures: Mapping[str, float]
    ) -> dict[str, FloatArray]:
        """See `Head.log_probabilities`."""
        return {
            control: path_log_probabilities(logits / temperatures.get(control, 1.0), trees[control])
            for control, logits in self.logits(x).items()
        }

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in _ARRAYS}

    def save(self, path: Path) -> None:
        """Write the file: equal weights give equal bytes. Not atomic, since a version is staged as a whole folder."""
        # One entry only: safetensors writes several in an order that differs from call to call.
        path.write_bytes(save(self.arrays(), metadata={"head": json.dumps({FORMAT: 1, "controls": self.controls})}))

    @classmethod
    def load(cls, path: Path) -> "HeadWeights":
        """Return the weights in the file. Raises `DamagedError` when `save` did not write it."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata: Mapping[str, str] = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            if "head" in metadata:
                head = json.loads(metadata["head"])
            else:  # written by 0.1.0
                head = {FORMAT: 1, "controls": json.loads(metadata["controls"])}
            check_format(path, int(head[FORMAT]), newest=1)
            return cls.of(arrays, head["controls"], path)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not a readable head: {error}") from error

    @classmethod
    def of(cls, arrays: Mapping[str, Array], controls: Iterable[tuple[str, int]], path: Path) -> "HeadWeights":
        """Return the weights of the arrays in a file. Raises `DamagedError` when they do not fit together, and
        KeyError, TypeError or ValueError when some are missing."""
        known = tuple((str(control), int(nodes)) for control, nodes in controls)
        dimension, hidden, nodes = arrays["mean"].size, arrays["bias1"].size, sum(count for _, count in known)
        shapes = ((dimension,), (dimension,), (hidden, dimension), (hidden,), (nodes, hidden), (nodes,))
        if tuple(arrays[name].shape for name in _ARRAYS) != shapes:
            raise DamagedError(f"{path} holds arrays that do not fit together.")
        return cls(**arrays, controls=known)
