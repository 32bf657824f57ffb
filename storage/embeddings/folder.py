"""Embeddings in a folder on this machine, in half precision."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.storage.arrays.append_only_store import AppendOnlyStore, ArrayLayout
from taxonomist.taxonomy.errors import StorageError

__all__ = ["FolderEmbeddings"]


class FolderEmbeddings:
    """`Embeddings` in a folder: an `AppendOnlyStore` of float16. After damage the embeddings are computed again."""

    def __init__(self, folder: Path | str, dimension: int) -> None:
        layout = ArrayLayout(
            what="embeddings",
            checksum_key="vectors",
            file="vectors.f16",
            shape=(dimension,),
            dtype="<f2",
            header={"dimension": dimension},
            hint="Give each backbone version a folder of its own.",
        )
        self._rows: AppendOnlyStore[np.float16] = AppendOnlyStore(folder, layout)

    def get(self, ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `Embeddings.get`."""
        found, half = self._rows.get(ids)
        return found, half.astype(np.float32)

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> int:
        """See `Embeddings.append`.

        Raises `StorageError` and stores nothing when a vector has another length or is not finite in half precision.
        """
        self._rows.check(ids, vectors)
        with np.errstate(over="ignore", invalid="ignore"):
            half: NDArray[np.float16] = vectors.astype("<f2")
        bad = np.flatnonzero(~np.isfinite(half).all(axis=1))
        if bad.size:
            raise StorageError(
                f"The embedding of {ids[int(bad[0])]} is not finite in half precision.",
                hint="The backbone outputs NaN or values beyond 65,504; export it again.",
            )
        return self._rows.append(ids, half)

    def snapshot(self) -> tuple[list[str], NDArray[np.float16]]:
        """See `Embeddings.snapshot`. The array stays valid while the store grows."""
        return self._rows.snapshot()

    def __contains__(self, id: object) -> bool:
        return id in self._rows

    def __len__(self) -> int:
        return len(self._rows)
