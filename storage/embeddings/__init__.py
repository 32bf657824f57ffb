"""Embeddings of the images, one store for each backbone version.

`folder` keeps them on this machine; `blob` shares them between machines through Azure Blob Storage. It is imported by
its own name, because Azure's SDK takes half a second to import.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from taxonomist.storage.embeddings.folder import FolderEmbeddings

__all__ = ["Embeddings", "FolderEmbeddings"]


class Embeddings(Protocol):
    """A store of embeddings, one per image id. Threads and processes may share it.

    Every method raises `StorageError` when the store cannot be read or written.
    """

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which of the n ids are stored, shape (n,), and their embeddings (n, d), zeros for the others."""
        ...

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """Store the vectors (n, d) of the new ids on the disk. Return the number of new ids."""
        ...

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """Return all n ids and their embeddings (n, d), read-only. The id of one that was forgotten is ""."""
        ...

    def __contains__(self, id: object) -> bool: ...

    def __len__(self) -> int: ...
