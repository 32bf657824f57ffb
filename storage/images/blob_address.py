"""Parses the addresses of blobs, as Label Studio, the Azure portal and users write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from taxonomist.storage.catalog.image_ids import resolved

__all__ = ["BlobAddress", "blob_address"]

_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_SIGNATURE = re.compile(r"\?(?:[^?]*&)?sig=[^?]*$")


@dataclass(frozen=True)
class BlobAddress:
    """A container, and the possible names of the blob in it, the most probable first."""

    container: str
    names: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether Azure allows the names. Path parts of dots only would lead a client to another container."""
        return bool(_CONTAINER.fullmatch(self.container)) and all(
            0 < len(name) <= 1024 and not {".", ".."} & set(name.replace("\\", "/").split("/")) for name in self.names
        )


def blob_address(uri: str, account_url: str) -> BlobAddress | None:
    """Return the blob of an address, None when it is not a blob of the account at `account_url`.

    Accepted are `azure-blob://container/name` (Label Studio does not percent-encode the name, other programs do), the
    account's own `https://account.blob.core.windows.net/container/name` with or without a signature, and Label Studio's
    `/tasks/7/resolve/?fileuri=…` around one of them.
    """
    uri = (resolved(uri) or uri).strip()
    scheme, mark, rest = uri.partition("://")
    if mark and scheme.lower() == "azure-blob":
        container, _, name = _SIGNATURE.sub("", rest).partition("/")
        return BlobAddress(container, tuple(dict.fromkeys((name, unquote(name)))))
    try:
        parts, account = urlsplit(uri), urlsplit(account_url)
        same_port = parts.port == account.port or (parts.port, account.port) in {(443, None), (80, None)}
    except ValueError:
        return None
    prefix = account.path.rstrip("/") + "/"
    if parts.scheme not in ("http", "https") or parts.hostname != account.hostname or not same_port:
        return None
    if parts.username or not parts.path.startswith(prefix):
        return None
    container, _, name = parts.path.removeprefix(prefix).partition("/")
    return BlobAddress(unquote(container), (unquote(name),))
