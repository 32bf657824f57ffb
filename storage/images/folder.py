"""Images in a folder on this machine."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.images.loading import hold_file
from taxonomist.taxonomy.errors import (
    ImageForbiddenError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnavailableError,
)

__all__ = ["FolderImages"]


class FolderImages:
    """`Images` below `root`. An address is a path, relative to `root` or absolute inside it.

    `links` are the folders outside into which links may lead.
    """

    def __init__(self, root: Path | str, max_bytes: int, links: Sequence[Path] = ()) -> None:
        self._root = Path(root)
        self._max_bytes = max_bytes
        self._links = tuple(links)

    def read(self, uri: str) -> bytes:
        """See `Images.read`. A path that leaves the folder by `..` or another link raises `ImageForbiddenError`."""
        path = self._inside(uri)
        try:
            # Non-blocking, because a named pipe would block until it has a writer.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise _refusal(uri, error) from error
        try:
            return self._read(uri, handle)
        finally:
            os.close(handle)

    def _inside(self, uri: str) -> Path:
        address = parse_address(uri)
        if address.kind != "file":
            raise ImageForbiddenError(f'"{uri}" is not a path in a folder.')
        try:
            root = self._root.resolve()
            path = (root / address.name).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise ImageForbiddenError(f'"{uri}" is not a valid path ({error}).') from error
        if not path.is_relative_to(root) and not self._is_known_link(root, address.name, path):
            raise ImageForbiddenError(f'"{uri}" is outside the image folder {root}.')
        return path

    def _is_known_link(self, root: Path, name: str, path: Path) -> bool:
        """Return whether a path in the folder leads by a link into one of the folders that links may lead to."""
        if not Path(os.path.normpath(root / name)).is_relative_to(root):
            return False
        return any(path.is_relative_to(link) for link in self._links)

    def _read(self, uri: str, handle: int) -> bytes:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ImageNotFoundError(f'"{uri}" is not a file.')
        if status.st_size > self._max_bytes:
            raise ImageTooLargeError(
                f'"{uri}" has {status.st_size:,} bytes; at most {self._max_bytes:,} are read.',
                hint="Raise TAXONOMIST_MAX_IMAGE_BYTES or shrink the image.",
            )
        hold_file(status.st_size)
        try:
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(self._max_bytes)
        except OSError as error:
            raise _refusal(uri, error) from error


def _refusal(uri: str, error: OSError) -> Exception:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}:
        return ImageNotFoundError(f'There is no image "{uri}" in the folder.')
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ImageForbiddenError(
            f'"{uri}" may not be read ({error.strerror}).', hint="Check the owner and the permissions of the file."
        )
    return ImageUnavailableError(f'"{uri}" cannot be read ({error.strerror}).')
