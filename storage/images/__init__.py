"""The encoded bytes of images: from a folder, Label Studio, allowed http(s) hosts, or Azure Blob Storage.

`router` chooses the source by the form of the address, and `cache` keeps fetched images on the disk.
"""

from typing import Protocol

from taxonomist.storage.addresses import parse_address
from taxonomist.taxonomy.redaction import redacted

__all__ = ["Images", "without_query"]


class Images(Protocol):
    """A source of image bytes. Threads may share it."""

    def read(self, uri: str) -> bytes:
        """Return the encoded bytes of the image, never more than the configured limit.

        Raises `ImageNotFoundError`, `ImageForbiddenError`, `ImageTooLargeError` or `ImageUnavailableError`.
        """
        ...


def without_query(uri: str) -> str:
    """Return the address for errors, logs and lists, without a password and a query that may be a signature."""
    head, _, query = uri.partition("?")
    may_be_signed = parse_address(uri).kind == "http" or "sig" in query.lower()
    return redacted(head if may_be_signed else uri)[:300]
