"""The ids that releases before version 2 of the home gave to images. Only the migration needs them.

They cut names at `#`, `?` and `&`, decoded names that are not percent-encoded, dropped the whole query of a signed
address, and left out the storage account, so different images could share an id.
"""

import base64
import binascii
import hashlib
import posixpath
import re
import unicodedata
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["former_image_id"]

_UPLOAD = re.compile(r"/data/upload/(\d+/[^/]+)$")
_RESOLVE = re.compile(r"/(?:tasks|projects)/\d+/(?:resolve|presign)/?$")
_SIGNATURES = {"sig", "signature", "x-amz-signature", "x-goog-signature"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def former_image_id(uri: str) -> str:
    """Return the id that version 1 of the home gave to the image at this address."""
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
    path, query = _plain(unquote(parts.path)), parse_qs(parts.query, keep_blank_values=True)
    if upload := _UPLOAD.search(path):
        return f"upload:{upload[1]}"
    if path.rstrip("/").endswith("/data/local-files") and "d" in query:
        return f"local-files:{posixpath.normpath(_plain(query['d'][0]))}"
    if (inner := _resolved(uri)) is not None:
        return _identity(inner)
    host = (parts.hostname or "").lower()
    if host.endswith(".blob.core.windows.net"):
        return f"azure-blob:{path}"
    if parts.scheme == "azure-blob":
        return f"azure-blob:/{parts.netloc}{path}"
    if not parts.scheme or len(parts.scheme) == 1:
        return f"file:{posixpath.normpath(_plain(uri.strip()))}"
    scheme = "http" if parts.scheme in _DEFAULT_PORTS else parts.scheme
    location = host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    signed = _SIGNATURES & {name.lower() for name in query}
    return f"{scheme}://{location}{path}" + (f"?{parts.query}" if parts.query and not signed else "")


def _resolved(uri: str) -> str | None:
    parts = urlsplit(uri.strip())
    if not _RESOLVE.search(_plain(unquote(parts.path))):
        return None
    inner = parse_qs(parts.query).get("fileuri")
    try:
        return base64.urlsafe_b64decode(inner[0] + "=" * (-len(inner[0]) % 4)).decode("utf-8") if inner else None
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", path).replace("\\", "/")
