"""The id of an image, from its address."""

import hashlib
import posixpath
import re
from functools import lru_cache

from taxonomist.storage.addresses import Address, parse_address

__all__ = ["id_of_address", "image_id"]

_MOST_CHARACTERS = 500  # of an address whose id is kept


def image_id(uri: str) -> str:
    """Return a stable id, valid as a file name and in Cosmos DB: 16 hex digits of a hash, and the cleaned base name.

    All addresses of one image have the same id, and different images have different ones; see `storage.addresses`.
    """
    return _kept_id(uri) if len(uri) <= _MOST_CHARACTERS else id_of_address(parse_address(uri))


@lru_cache(maxsize=10_000)
def _kept_id(uri: str) -> str:
    """Return `image_id`; a request names each image several times, and the next one names it again."""
    return id_of_address(parse_address(uri))


def id_of_address(address: Address) -> str:
    """Return the id of the image at a parsed address."""
    key = address.key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = key.partition(":")[2]
    path = path.split("?")[0] if address.kind == "http" else path
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", posixpath.basename(path.rstrip("/")))
    return f"{digest}-{name[-60:].lstrip('._-') or 'image'}"


def hashed_id(image: str) -> str:
    """Return what stands for the id of an image where its traces may stay: the id has the name of its file."""
    return hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:32]
