"""The id of an image, from its address."""

import base64
import binascii
import hashlib
import posixpath
import re
import unicodedata
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["image_id", "resolved"]

_UPLOAD = re.compile(r"/data/upload/(\d+/[^/]+)$")
_RESOLVE = re.compile(r"/(?:tasks|projects)/\d+/(?:resolve|presign)/?$")
_SIGNATURES = {"sig", "signature", "x-amz-signature", "x-goog-signature"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def image_id(uri: str) -> str:
    """Return a stable id, valid as a file name and in Cosmos DB: 16 hex digits of a hash, and the cleaned base name.

    All addresses of one image have the same id: with or without Label Studio's host, http or https, percent-encoded or
    not, with or without a signature (SAS, presigned), and both forms of the address of an Azure blob.
    """
    key = _identity(uri)
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = key.partition(":")[2].split("?")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", posixpath.basename(path.rstrip("/")))
    return f"{digest}-{name[-60:].lstrip('._-') or 'image'}"


def _identity(uri: str) -> str:
    try:
        parts = urlsplit(uri.strip())
        port = parts.port
    except ValueError:
        return f"text:{uri}"
    if parts.scheme == "data":
        return f"data:{hashlib.sha256(uri.encode('utf-8', 'surrogatepass')).hexdigest()}"
    path, query = _plain(parts.path), parse_qs(parts.query, keep_blank_values=True)
    if upload := _UPLOAD.search(path):
        return f"upload:{upload[1]}"
    if path.rstrip("/").endswith("/data/local-files") and "d" in query:
        return f"local-files:{_relative(_plain(query['d'][0], decoded=True))}"
    if (inner := resolved(uri)) is not None:
        return _identity(inner)
    host = (parts.hostname or "").lower()
    if host.endswith(".blob.core.windows.net"):
        return f"azure-blob:{path}"
    if parts.scheme == "azure-blob":
        return f"azure-blob:/{parts.netloc}{path}"
    if not parts.scheme or len(parts.scheme) == 1:  # a path, perhaps with a drive letter
        return f"file:{_relative(_plain(uri.strip(), decoded=True))}"
    scheme = "http" if parts.scheme in _DEFAULT_PORTS else parts.scheme
    location = host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    signed = _SIGNATURES & {name.lower() for name in query}
    return f"{scheme}://{location}{path}" + (f"?{parts.query}" if parts.query and not signed else "")


def resolved(uri: str) -> str | None:
    """Return the address inside Label Studio's `/tasks/7/resolve/?fileuri=…`, None for other addresses."""
    try:
        parts = urlsplit(uri.strip())
    except ValueError:
        return None
    if not _RESOLVE.search(_plain(parts.path)):
        return None
    inner = parse_qs(parts.query).get("fileuri")
    return _decoded(inner[0]) if inner else None


def _plain(path: str, *, decoded: bool = False) -> str:
    return unicodedata.normalize("NFC", path if decoded else unquote(path)).replace("\\", "/")


def _relative(path: str) -> str:
    return posixpath.normpath(path)


def _decoded(text: str) -> str | None:
    """Return the address inside Label Studio's `fileuri`, which is base64; None when it cannot be decoded."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
