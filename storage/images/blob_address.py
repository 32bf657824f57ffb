"""The addresses of blobs, as Label Studio, the portal and people write them."""

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
    """A container, and the names that the address may mean in it, the likeliest first."""

    container: str
    names: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether Azure allows them. Dots as parts of a path would lead a client elsewhere, into another container."""
        return bool(_CONTAINER.fullmatch(self.container)) and all(
            0 < len(name) <= 1024 and not {".", ".."} & set(name.replace("\\", "/").split("/")) for name in self.names
        )


def blob_address(uri: str, account_url: str) -> BlobAddress | None:
    """The blob that the address means, None when it does not mean one of the account at `account_url`.

    Understood are `azure-blob://container/name` (Label Studio writes the name as it is, others percent-encode it), the
    account's own `https://account.blob.core.windows.net/container/name`, with a signature or without, and Label
    Studio's `/tasks/7/resolve/?fileuri=…` around either.
    """
    uri = (resolved(uri) or uri).strip()
    scheme, mark, rest = uri.partition("://")
    if mark and scheme.lower() == "azure-blob":
        container, _, name = _SIGNATURE.sub("", rest).partition("/")
        return BlobAddress(container, tuple(dict.fromkeys((name, unquote(name)))))
    try:
        here, account = urlsplit(uri), urlsplit(account_url)
        same_port = here.port == account.port or (here.port, account.port) in {(443, None), (80, None)}
    except ValueError:
        return None
    prefix = account.path.rstrip("/") + "/"
    if here.scheme not in ("http", "https") or here.hostname != account.hostname or not same_port:
        return None
    if here.username or not here.path.startswith(prefix):
        return None
    container, _, name = here.path.removeprefix(prefix).partition("/")
    return BlobAddress(unquote(container), (unquote(name),))
