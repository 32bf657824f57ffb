"""Chooses the source of an image by the form of its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.images import Images, without_query
from taxonomist.storage.images.label_studio import IN_A_STORAGE, LabelStudioImages
from taxonomist.taxonomy.errors import ImageForbiddenError

if TYPE_CHECKING:  # Azure's SDK takes half a second to import
    from taxonomist.storage.images.blob import BlobImages

__all__ = ["RoutedImages"]


class RoutedImages:
    """`Images` with addresses of every form: Azure blobs, what Label Studio serves, http(s), paths in the folder.

    Raises `ImageForbiddenError` for sources that are not configured and for other schemes (`file:`, `ftp:`, `data:`).
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
        source = self._source(uri)
        try:
            return source.read(uri)
        except ImageForbiddenError as error:
            if source is self._http and parse_address(uri).kind in {"upload", "local-files"}:
                error.hint = (
                    "If that is another address of your Label Studio, add it to TAXONOMIST_LABEL_STUDIO_ADDRESSES. "
                    f"{error.hint or ''}".rstrip()
                )
            raise

    def needs_no_cache(self, uri: str) -> bool:
        """Return whether the source is the folder, or has its own cache. Raises `ImageForbiddenError` as `read`."""
        return self._source(uri) in (self._folder, self._blobs)

    def _source(self, uri: str) -> Images:
        if self._blobs is not None and self._blobs.owns(uri):
            return self._blobs
        if self._label_studio is not None and self._label_studio.owns(uri):
            return self._label_studio
        address = parse_address(uri)
        if address.is_on_label_studio:
            raise ImageForbiddenError(
                f'"{uri}" is an image in Label Studio.',
                hint="Set TAXONOMIST_LABEL_STUDIO_URL and TAXONOMIST_LABEL_STUDIO_API_KEY.",
            )
        if address.kind in IN_A_STORAGE and not address.url:
            own = "Set TAXONOMIST_BLOB_CONNECTION_STRING or TAXONOMIST_BLOB_ACCOUNT_URL, or read"
            raise ImageForbiddenError(
                f'"{without_query(uri)}" is in a cloud storage that is not set up.',
                hint=f"{own if address.kind == 'azure-blob' else 'Read'} it through the storage of a project in Label "
                "Studio: run `taxonomist connect` for that project.",
            )
        if address.url:
            return self._http
        if address.kind != "file" or address.name.startswith("//"):
            scheme = uri.strip().partition(":")[0] if address.kind != "file" else "//"
            raise ImageForbiddenError(
                f'Images are not read from "{scheme[:20]}" addresses.', hint="Use http, https or a path."
            )
        if self._folder is None:
            raise ImageForbiddenError(
                f'"{uri[:300]}" is a path, and no image folder is set.', hint="Set TAXONOMIST_IMAGES_FOLDER."
            )
        return self._folder
