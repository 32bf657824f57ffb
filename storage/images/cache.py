"""A cache of fetched images on the disk, with a limit on its size."""

import hashlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from taxonomist.storage.addresses import parse_address
from taxonomist.storage.catalog.image_ids import id_of_address
from taxonomist.storage.files import write_atomically
from taxonomist.storage.images import Images
from taxonomist.storage.images.loading import hold_file

__all__ = ["ByteCache", "CachedImages", "cached_files"]

log = logging.getLogger(__name__)

_BELOW = {"upload": "/data/upload/", "local-files": "/data/local-files/"}
_DIGEST = 32
_SHARE_AFTER_EVICTION = 0.9
_SHARE_UNTIL_RECOUNT = 0.05


class CachedImages:
    """`Images` that caches another source. The bytes of an address are assumed never to change.

    A file holds the SHA-256 of the bytes and the bytes; a file that does not match is fetched again. When the cache
    exceeds `max_bytes_total`, the least recently used files are deleted. On a full disk images are returned without
    caching, and so are always the addresses for which `skip` is true.
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
        id = _cache_id(uri)
        if (data := self._cache.get(id)) is not None:
            return data
        data = self._inner.read(uri)
        if data:
            self._cache.put(id, data)
        return data


def _cache_id(uri: str) -> str:
    """Return the id of the image, with the host and the path of Label Studio below it where the id has neither: another
    Label Studio, or another server with such addresses, may have other files."""
    address = parse_address(uri)
    url = urlsplit("" if address.kind == "http" else address.url)
    below = url.path.rpartition(_BELOW[address.kind])[0] if address.kind in _BELOW else ""
    site = url.netloc.lower() + below
    digest = hashlib.sha256(site.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return id_of_address(address) + (f"-{digest}" if site else "")


def cached_files(folder: Path, ids: Collection[str]) -> Iterator[Path]:
    """Yield the files that the cache in `folder` has of these images."""
    digests = {id.partition("-")[0] for id in ids}
    for prefix in sorted({digest[:2] for digest in digests}):
        if (folder / prefix).is_dir():
            yield from (path for path in (folder / prefix).iterdir() if path.name.partition("-")[0] in digests)


class ByteCache:
    """Bytes by image id in a folder, up to `max_bytes_total`; the least recently used files are deleted.

    Threads and processes may share it. A damaged file counts as missing. On a full disk nothing is added.
    """

    def __init__(self, folder: Path | str, max_bytes_total: int) -> None:
        self._folder = Path(folder)
        self._limit = max_bytes_total
        self._lock = threading.Lock()
        self._size = 0
        self._uncounted: float = float("inf")  # bytes written since the folder was counted; at first it is unknown
        self._warned = False

    def get(self, id: str) -> bytes | None:
        """Return the stored bytes, None when they are missing or damaged."""
        return _stored(self._path(id))

    def put(self, id: str, data: bytes) -> None:
        """Store the bytes, unless they exceed the limit."""
        if len(data) + _DIGEST > self._limit:
            return
        path = self._path(id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a sync, because an incomplete file after a crash does not match its digest.
            write_atomically(path, hashlib.sha256(data).digest() + data, sync=False)
            self._warned = False
        except OSError as error:
            if not self._warned:
                log.warning("Images are not cached in %s for now: %s", self._folder, error.strerror)
                self._warned = True
            return
        self._count(len(data) + _DIGEST)

    def drop(self, id: str) -> None:
        """Delete the bytes."""
        with suppress(OSError):
            self._path(id).unlink()

    def _path(self, id: str) -> Path:
        return self._folder / id[:2] / id

    def _count(self, size: int) -> None:
        with self._lock:
            self._size += size
            self._uncounted += size
            # Other processes write too, so the folder is counted again from time to time.
            if self._size > self._limit or self._uncounted > self._limit * _SHARE_UNTIL_RECOUNT:
                self._evict()

    def _evict(self) -> None:
        files = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        self._size, self._uncounted = sum(size for _, size, _ in files), 0
        if self._size <= self._limit:
            return
        for _, size, path in sorted(files):
            if self._size <= self._limit * _SHARE_AFTER_EVICTION:
                return
            with suppress(OSError):
                path.unlink()
                self._size -= size


def _stored(path: Path) -> bytes | None:
    """Return the bytes of a file, None when it is missing or damaged. Reading counts as use."""
    try:
        hold_file(path.stat().st_size)
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    with suppress(OSError):
        path.touch()
    return data
