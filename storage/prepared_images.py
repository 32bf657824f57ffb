"""Decoded images of one size, which pre-training reads many times without decoding them again."""

import errno
import os
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
    """An `AppendOnlyStore` of RGB images, uint8 of shape (size, size, 3), in `pictures.u8`.

    The store may be larger than memory (300,000 images of 160 pixels: 23 GB), so opening it reads the index and the
    last batch only. Damaged pixels in older batches are not detected; a file that is too short is.

    `keep_free` is the number of bytes that stay free on the disk, because labels and models are written there too.
    """

    def __init__(self, folder: Path | str, size: int, *, keep_free: int = KEEP_FREE) -> None:
        layout = ArrayLayout(
            what="images",
            checksum_key="pictures",
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

    def append(self, ids: Sequence[str], images: NDArray[np.uint8]) -> int:
        """Store the images (n, size, size, 3) of the new ids on the disk. Return the number of new ids.

        Raises `StorageError` and stores nothing when the images have another shape or type, or when less than
        `keep_free` bytes would stay free.
        """
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
        if free - images.nbytes < self._keep_free:
            raise StorageError(
                f"No room for {len(ids)} more images in {self._folder}: {free:,} bytes are free, and "
                f"{self._keep_free:,} of them are reserved for labels and models.",
                hint="Make room on the disk; the images that are prepared already stay.",
            ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().append(ids, images)
