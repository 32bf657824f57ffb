"""The address of our pages, where Label Studio reaches the server at another one: browsers and strangers come this way.

Only pages and their assets are there. What Label Studio and operators call stays on the internal address.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from taxonomist.backend.settings import Settings
from taxonomist.backend.web.callers.caller import Caller

PROTOCOL = frozenset({"setup", "predict", "webhook", "train", "metrics", "versions"})
"""The routes of Label Studio and of operators. Each is one part of a path, after that of the server's address."""

REFUSAL = (
    "Only pages are at this address. Label Studio and programs call the server's internal address, "
    "TAXONOMIST_PUBLIC_URL."
)


class PageAddress:
    """Tells requests through the address of the pages from others."""

    def __init__(self, settings: Settings) -> None:
        self._is_apart = settings.page_url != settings.url
        path = urlsplit(settings.page_url).path
        self._path = f"{path}/" if path and path != urlsplit(settings.url).path else None

    def refuses(self, path: str, caller: Caller) -> bool:
        """Return whether a request for this path is one of the protocol's that came through the pages' address.

        It did so if it was forwarded by a proxy, or has the path of that address.
        """
        if not self._is_apart or path.rpartition("/")[2] not in PROTOCOL:
            return False
        return caller.is_forwarded or (self._path is not None and path.startswith(self._path))
