"""Where an image is read from, by the form of its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxonomist.storage.images import Images, without_query
from taxonomist.storage.images.folder import scheme_of
from taxonomist.storage.images.label_studio import LabelStudioImages, is_label_studio_path
from taxonomist.taxonomy.errors import ImageForbiddenError

if TYPE_CHECKING:  # Azure's SDK takes half a second to import, and most have no use for it
    from taxonomist.storage.images.blob import BlobImages

__all__ = ["RoutedImages"]


class RoutedImages:
    """`Images` of every form that we read: Azure's blobs, Label Studio's paths and host, http(s), paths in the folder.

    What is not set up is `ImageForbiddenError`, and so is every other scheme (`file:`, `ftp:`, `data:`, ...).
    """

    def __init__(
        self,
        *,
        http: Images,
        label_studio: LabelStudioImages | None = None,
        folder: Images | None = None,
        blobs: BlobImages | None = None,
    ) -> None:
        self._http = http
        self._label_studio = label_studio
        self._folder = folder
        self._blobs = blobs

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        return self._source(uri).read(uri)

    def needs_no_cache(self, uri: str) -> bool:
        """Whether it is read from the folder, or from a source with a cache of its own. Raises `ImageForbiddenError` as
        `read` does."""
        return self._source(uri) in (self._folder, self._blobs)

    def _source(self, uri: str) -> Images:
        if self._blobs is not None and self._blobs.owns(uri):
            return self._blobs
        if self._label_studio is not None and self._label_studio.owns(uri):
            return self._label_studio
        if is_label_studio_path(uri):
            raise ImageForbiddenError(f'"{uri}" is kept by Label Studio.', hint="Set label_studio_url and its token.")
        scheme = scheme_of(uri)
        if scheme == "azure-blob" and self._blobs is None:
            raise ImageForbiddenError(
                f'"{without_query(uri)}" is kept by Azure.', hint="Set blob_connection_string or blob_account_url."
            )
        if scheme in ("http", "https"):
            return self._http
        if len(scheme) > 1 or uri.startswith("//"):
            raise ImageForbiddenError(
                f'Images are not read from "{scheme or "//"}" addresses.', hint="Use http, https or a path."
            )
        if self._folder is None:
            raise ImageForbiddenError(
                f'"{uri[:300]}" is a path, and no image folder is set.', hint="Set images_folder."
            )
        return self._folder
