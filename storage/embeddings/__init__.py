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
    """Where embeddings are kept, each once. Safe to share between threads and processes.

    Every method raises `StorageError` when the store cannot be read or written.
    """

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which of the n ids are there (n,), and their embeddings (n, d), zeros where there is none."""
        ...

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """Keep the vectors (n, d) of the ids that are new; on the disk when it returns. Returns how many were new."""
        ...

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """All ids (n) and their embeddings (n, d), read only."""
        ...

    def __contains__(self, id: object) -> bool: ...

    def __len__(self) -> int: ...
