"""Image bytes: from a folder, from Label Studio or from http(s) hosts that the settings allow."""

from typing import Protocol

__all__ = ["Images", "without_query"]


class Images(Protocol):
    """Where the bytes of images are kept. Safe to share between threads."""

    def read(self, uri: str) -> bytes:
        """The encoded bytes of the image, never more than the limit that was set.

        Raises `ImageNotFoundError`, `ImageForbiddenError`, `ImageTooLargeError` or `ImageUnavailableError`.
        """
        ...


def without_query(uri: str) -> str:
    """The address as errors, logs and lists show it. Its query may be a signature that opens the image to anybody."""
    return uri.split("?")[0][:300]
