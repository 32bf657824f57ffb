"""Images that were fetched before, kept on the disk up to a limit."""

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.files import write_atomically
from taxonomist.storage.images import Images

__all__ = ["ByteCache", "CachedImages"]

log = logging.getLogger(__name__)

_DIGEST = 32
_KEEP = 0.9
_LOOK_AGAIN = 0.05


class CachedImages:
    """`Images` in front of slower ones. The bytes of an address are taken to be the same for ever.

    A file is the sha256 of the bytes and the bytes, written whole; what does not match is fetched again. Beyond
    `max_bytes_total` the files that were not used for longest go. When the disk is full, images are passed on uncached;
    so are always those that `skip` names.
    """

    def __init__(
        self,
        inner: Images,
        folder: Path | str,
        max_bytes_total: int,
        *,
        skip: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._inner = inner
        self._skip = skip
        self._cache = ByteCache(folder, max_bytes_total)

    def read(self, uri: str) -> bytes:
        """See `Images.read`."""
        if self._skip(uri):
            return self._inner.read(uri)
        id = image_id(uri)
        if (data := self._cache.get(id)) is not None:
            return data
        data = self._inner.read(uri)
        if data:
            self._cache.put(id, data)
        return data


class ByteCache:
    """Bytes by image id in a folder, up to `max_bytes_total`; what was not used for longest goes.

    Threads and processes may share it. What is not whole is not there; a disk that is full keeps nothing new.
    """

    def __init__(self, folder: Path | str, max_bytes_total: int) -> None:
        self._folder = Path(folder)
        self._limit = max_bytes_total
        self._lock = threading.Lock()
        self._size = 0
        self._unseen: float = float("inf")  # bytes written since the folder was looked at; at first we know nothing
        self._complained = False

    def get(self, id: str) -> bytes | None:
        """What was put there, None when it is not there any more."""
        return _stored(self._path(id))

    def put(self, id: str, data: bytes) -> None:
        """Keep the bytes, unless they are more than the limit."""
        if len(data) + _DIGEST > self._limit:
            return
        path = self._path(id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a sync: a file that is torn by a crash does not match its digest.
            write_atomically(path, hashlib.sha256(data).digest() + data, sync=False)
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("Images are not cached in %s for now: %s", self._folder, error.strerror)
                self._complained = True
            return
        self._count(len(data) + _DIGEST)

    def drop(self, id: str) -> None:
        """Forget the bytes."""
        with suppress(OSError):
            self._path(id).unlink()

    def _path(self, id: str) -> Path:
        return self._folder / id[:2] / id

    def _count(self, size: int) -> None:
        with self._lock:
            self._size += size
            self._unseen += size
            # Other processes write here too, so our own count is only good for a while.
            if self._size > self._limit or self._unseen > self._limit * _LOOK_AGAIN:
                self._evict()

    def _evict(self) -> None:
        files = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        self._size, self._unseen = sum(size for _, size, _ in files), 0
        if self._size <= self._limit:
            return
        for _, size, path in sorted(files):
            if self._size <= self._limit * _KEEP:
                return
            with suppress(OSError):
                path.unlink()
                self._size -= size


def _stored(path: Path) -> bytes | None:
    """The bytes, or `None` when they are not there or not whole. Reading counts as use."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    with suppress(OSError):
        path.touch()
    return data
