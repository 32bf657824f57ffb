"""The readers of images: one for each set of folders and Label Studio that projects have."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from taxonomist.backend.settings import Settings
from taxonomist.backend.state.image_folders import ImageFolder, ImportedImages
from taxonomist.storage.images import Images
from taxonomist.storage.images.cache import CachedImages
from taxonomist.storage.images.folder import FolderImages
from taxonomist.storage.images.http import HttpImages
from taxonomist.storage.images.label_studio import LabelStudioImages
from taxonomist.storage.images.router import RoutedImages

if TYPE_CHECKING:  # Azure's SDK takes long to import, and only some installations use it
    from taxonomist.storage.images.blob import BlobImages


class ImageSource(NamedTuple):
    """What a project's images are read from: its folders, and its Label Studio as `LabelStudioImages` has it."""

    folders: tuple[ImageFolder, ...]
    url: str | None
    token: str | None
    fallback: str | None
    other_urls: tuple[str, ...]
    project: str | None
    keep: bool = True  # whether fetched images are added to the cache


class ImageReaders:
    """Makes the reader of each source once; all threads share it. Fetched images are cached below `folder`.

    `blobs` returns the images in Azure, with a cache or without.
    """

    def __init__(self, settings: Settings, folder: Path, blobs: Callable[[bool], BlobImages | None]) -> None:
        self._settings = settings
        self._folder = folder
        self._blobs = blobs
        proxy = settings.image_proxy
        self._http = HttpImages(
            settings.allowed_image_hosts,
            settings.max_image_bytes,
            settings.image_timeout,
            proxy=proxy.get_secret_value() if proxy else None,
        )
        self._lock = threading.Lock()
        self._readers: dict[ImageSource, Images] = {}

    def get(self, source: ImageSource) -> Images:
        """Return the reader of a source: its folders, Label Studio and allowed hosts, through the cache."""
        with self._lock:
            if source not in self._readers:
                self._readers[source] = self._open(source)
            return self._readers[source]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _open(self, source: ImageSource) -> Images:
        settings = self._settings
        label_studio = None
        if source.url:
            label_studio = LabelStudioImages(
                source.url,
                lambda: source.token or "",
                self._http,
                fallback=source.fallback,
                other_urls=source.other_urls,
                project=source.project,
            )
        remote = RoutedImages(
            http=self._http,
            label_studio=label_studio,
            folder=FolderImages(settings.images_folder, settings.max_image_bytes) if settings.images_folder else None,
            blobs=self._blobs(source.keep),
        )
        # Two Label Studios may use the same path for different images.
        cached = CachedImages(
            remote,
            self._folder / hashlib.sha256((source.url or "").encode()).hexdigest()[:8],
            settings.image_cache_bytes if source.keep else 0,
            skip=remote.needs_no_cache,
        )
        return ImportedImages(source.folders, settings.max_image_bytes, cached) if source.folders else cached
