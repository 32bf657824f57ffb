"""Refuses what a web page of another site makes a browser send to us.

A server on loopback needs no password, but each page that a person opens can make the browser send requests to it. So a
request that changes something must be JSON, which browsers send across sites only after a check that we do not grant,
and must not come from another origin. A page could also give its own name our address (DNS rebinding): the name in
`Host` must be one of ours. A name that is an IP address, or `localhost`, cannot be given away.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

from taxonomist.backend.settings import Settings

_HEALTH = ("/", "/health", "/livez", "/readyz")
_ONCE = frozenset(
    {
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"content-type",
        b"content-length",
        b"authorization",
        b"x-taxonomist-secret",
    }
)


class Gate:
    """Decides by the headers alone, before a body is read."""

    def __init__(self, settings: Settings) -> None:
        ours = [settings.url, settings.page_url]
        self._origins = {"{0.scheme}://{0.netloc}".format(urlsplit(url)).lower() for url in ours}
        names = {"localhost", settings.host.lower(), *(urlsplit(url).hostname or "" for url in ours)}
        allowed = {name.lower() for name in settings.allowed_hosts}
        self._suffixes = tuple(name[1:] for name in allowed if name.startswith("*."))
        self._names = names | {name for name in allowed if not name.startswith("*.")}

    def refusal(self, method: str, path: str, sent: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """Return status and reason when a request is refused, else None. `sent` are the headers, in lower case.

        A header that must come once is refused twice, since other programs may look at another one of them.
        """
        headers = dict(sent)
        if double := sorted(
            name for name, count in Counter(name for name, _ in sent).items() if count > 1 and name in _ONCE
        ):
            return 400, f"The request has more than one header {double[0].decode().title()}."
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and not path.endswith(_HEALTH) and not self._is_ours(host):
            return 403, (
                f"The server is not known as {host[:100]!r}. Set TAXONOMIST_PUBLIC_URL or TAXONOMIST_BROWSER_URL to "
                "the address by which it is reached, or name the host in TAXONOMIST_ALLOWED_HOSTS."
            )
        if method in {"GET", "HEAD", "OPTIONS"}:
            return None
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"none")
        if origin:
            if origin not in self._origins and origin.partition("://")[2] != host:
                return 403, f"A page of {origin[:100]!r} must not send this request."
        elif site not in {b"none", b"same-origin"}:
            return 403, "A page of another site must not send this request."
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind != "application/json":
            return 415, "Send JSON, with the header Content-Type: application/json."
        return None

    def _is_ours(self, host: str) -> bool:
        if set("@/?#\\") & set(host):
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._names or name.endswith(self._suffixes)
        return True
