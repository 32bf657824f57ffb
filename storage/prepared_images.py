"""Decoded pictures of one size: what a pre-training reads, as often as it likes, without decoding again."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomist.storage.arrays.append_only_store import AppendOnlyStore, ArrayLayout
from taxonomist.storage.files import storage_errors
from taxonomist.taxonomy.errors import StorageError

__all__ = ["PreparedImageStore"]

KEEP_FREE = 1_000_000_000


class PreparedImageStore(AppendOnlyStore[np.uint8]):
    """A `AppendOnlyStore` of pictures, uint8 (size, size, 3), red first, in `pictures.u8`.

    It may be larger than memory (300,000 pictures of 160 pixels: 23 GB), so opening it reads the index and the last
    batch only. Pixels that rot in older batches are not noticed; a file that is too short is.

    `keep_free` (bytes) is left on the disk for those who cannot wait: labels are written there, too.
    """

    def __init__(self, folder: Path | str, size: int, *, keep_free: int = KEEP_FREE) -> None:
        layout = ArrayLayout(
            what="pictures",
            file="pictures.u8",
            shape=(size, size, 3),
            dtype="|u1",
            header={"size": size},
            hint="Give each size a folder of its own.",
            check_all=False,
        )
        super().__init__(folder, layout)
        self.size = size
        self._keep_free = keep_free

    def append(self, ids: Sequence[str], pictures: NDArray[np.uint8]) -> int:
        """Keep the pictures (n, size, size, 3) of the ids that are new; on the disk when it returns. Returns how many
        were new.

        Raises `StorageError` and keeps nothing when they have another shape or type, or before the disk is full.
        """
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
        if free - pictures.nbytes < self._keep_free:
            raise StorageError(
                f"No room for {len(ids)} more pictures in {self._folder}: {free:,} bytes are free, and "
                f"{self._keep_free:,} of them are left to labels and models.",
                hint="Make room on the disk; what was prepared stays.",
            )
        return super().append(ids, pictures)
