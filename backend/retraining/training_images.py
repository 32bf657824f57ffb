"""The images of one training, each read and decoded once."""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
import threading
from collections.abc import Collection
from dataclasses import replace
from types import TracebackType

import numpy as np

from taxonomist.backend.services import Services
from taxonomist.inference.image_decoding import PreparedImage
from taxonomist.inference.pipeline import DecodedImage, ImageSource
from taxonomist.storage.prepared_images import KEEP_FREE

log = logging.getLogger(__name__)

_NO_PIXELS: PreparedImage = np.empty((0, 0, 3), np.uint8)


class TrainingImages:
    """Loads the images of one training. Safe to use from several threads; a context manager.

    Which images get augmented views is known only after all of them were read: copies of a file must stand in the same
    part. So `load_and_keep` keeps the prepared pixels (150 kB for an image of 224 pixels) in a temporary file, from
    which `load` takes them later. The file has no name where the system allows it, and disappears with the process.
    When the disk is nearly full nothing more is kept, and `load` decodes those images again.

    `sizes` are the sides in pixels for which an image is prepared when it is decoded.
    """

    def __init__(self, services: Services, sizes: Collection[int], *, keep_free: int = KEEP_FREE) -> None:
        self._services = services
        self._sizes = frozenset(sizes)
        self._keep_free = keep_free
        self._lock = threading.Lock()
        home = services.settings.home
        self._file = tempfile.TemporaryFile(dir=home, prefix="training-", buffering=0)  # noqa: SIM115 - see __exit__
        self._end = 0
        self._full = False
        self._kept: dict[tuple[str, int], tuple[int, DecodedImage]] = {}  # offset in the file, and all but the pixels
        self._failures: dict[str, Exception] = {}
        self.file_hashes: dict[str, str] = {}
        """The sha256 of every file that was read, by image id."""

    def load_and_keep(self, source: ImageSource, size: int) -> DecodedImage:
        """Return what `load` returns, and keep the pixels for later calls."""
        return self._load(source, size, keep=True)

    def load(self, source: ImageSource, size: int) -> DecodedImage:
        """Return the image prepared for `size` pixels.

        Raises an `ImageError` when it cannot be read and an `ImageDecodingError` when it cannot be decoded; a later
        call raises the same error without another try.
        """
        return self._load(source, size, keep=False)

    def _load(self, source: ImageSource, size: int, *, keep: bool) -> DecodedImage:
        with self._lock:
            if failure := self._failures.get(source.id):
                raise failure
            if (image := self._take(source.id, size)) is not None:
                return image
        try:
            data = self._services.images(source.project).read(source.uri)
            max_pixels = self._services.settings.max_image_pixels
            images = DecodedImage.for_sizes(data, self._sizes | {size}, max_pixels=max_pixels)
        except Exception as error:
            with self._lock:
                self._failures[source.id] = error
            raise
        with self._lock:
            self.file_hashes[source.id] = images[size].file_hash
            if keep:
                for image in images.values():
                    self._keep(source.id, image)
        return images[size]

    def _take(self, image_id: str, size: int) -> DecodedImage | None:
        kept = self._kept.get((image_id, size))
        if kept is None:
            return None
        offset, image = kept
        self._file.seek(offset)
        pixels = np.frombuffer(self._file.read(3 * size * size), np.uint8).reshape(size, size, 3)
        return replace(image, pixels=pixels)

    def _keep(self, image_id: str, image: DecodedImage) -> None:
        if self._full:
            return
        try:
            if shutil.disk_usage(self._services.settings.home).free - image.pixels.nbytes < self._keep_free:
                raise OSError(errno.ENOSPC, "The disk is nearly full")
            self._file.seek(self._end)
            if self._file.write(image.pixels.tobytes()) != image.pixels.nbytes:
                raise OSError(errno.ENOSPC, "The disk is full")
        except OSError as error:
            self._full = True
            log.warning("decoded images are no longer kept, some are decoded a second time: %s", error.strerror)
            return
        self._kept[image_id, len(image.pixels)] = (self._end, replace(image, pixels=_NO_PIXELS))
        self._end += image.pixels.nbytes

    def __enter__(self) -> TrainingImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
