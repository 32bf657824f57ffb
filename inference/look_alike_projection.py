"""The space in which a project's look-alikes are compared, where products have taught one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from taxonomist.inference.heads.features import ProductProjection
from taxonomist.storage.formats import FORMAT, check_format
from taxonomist.taxonomy.errors import DamagedError

PROJECTION_FILE = "look_alikes.safetensors"


class LookAlikeProjection(ProductProjection):
    """The projection after which look-alikes are compared by their cosine."""

    def save(self, path: Path) -> None:
        """Write the projection, in half precision. Equal ones give equal bytes."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "mean": self.mean.astype(np.float16),
            "matrix": np.ascontiguousarray(self.matrix, np.float16),
        }
        path.write_bytes(save(arrays, metadata={"projection": json.dumps({FORMAT: 1})}))

    @classmethod
    def load(cls, path: Path) -> LookAlikeProjection:
        """Return the projection in the file. Raises `DamagedError` when `save` did not write it."""
        try:
            with safe_open(path, framework="numpy") as file:
                check_format(path, int(json.loads((file.metadata() or {})["projection"])[FORMAT]), newest=1)
                mean, matrix = (file.get_tensor(name).astype(np.float32) for name in ("mean", "matrix"))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not a readable projection: {error}") from error
        if mean.ndim != 1 or matrix.ndim != 2 or len(mean) != len(matrix):
            raise DamagedError(f"{path} holds arrays that do not fit together.")
        return cls(mean, matrix)
