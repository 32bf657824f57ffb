"""Refuses what a web page of another site makes a browser send to us.

A server on loopback needs no password, but each page that a person opens can make the browser send requests to it. So a
request that changes something must be JSON, which browsers send across sites only after a check that we do not grant,
and must not come from another origin. A form of our own pages is not JSON: it must prove that it comes from this
origin, and has a token, which the page compares. A page could also give its own name our address (DNS rebinding): the
name in `Host` must be one of ours. A name that is an IP address, or `localhost`, cannot be given away.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

import httpx

from taxonomist.backend.settings import Settings

_MOST_CHARACTERS = 300  # of a name with a port
_HEALTH = ("/", "/health", "/livez", "/readyz")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:@/?#\\,]+))(?::[0-9]*)?")
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
        self._origins = {origin for url in ours for origin in _origins(url)}
        names = {"localhost", settings.host.lower(), *(_ascii(urlsplit(url).hostname or "") for url in ours)}
        allowed = {_ascii(name.lower()) for name in settings.allowed_hosts}
        self._suffixes = tuple(name[1:] for name in allowed if name.startswith("*."))
        self._names = names | {name for name in allowed if not name.startswith("*.")}
        self._is_known = lru_cache(maxsize=256)(self._is_ours)

    def refusal(
        self, method: str, path: str, sent: Iterable[tuple[bytes, bytes]], *, takes_forms: bool = False
    ) -> tuple[int, str] | None:
        """Return status and reason when a request is refused, else None. `sent` are the headers, in lower case.

        `takes_forms`: the path is that of a page of ours, not of a route that programs call.
        A header that must come once is refused twice, since other programs may look at another one of them.
        """
        headers = dict(sent)
        once = [name for name, _ in sent if name in _ONCE]
        if len(once) > len(set(once)):
            double = min(name for name in once if once.count(name) > 1)
            return 400, f"The request has more than one header {double.decode().title()}."
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and not path.endswith(_HEALTH) and not (len(host) <= _MOST_CHARACTERS and self._is_known(host)):
            return 403, (
                f"The server is not known as {host[:100]!r}. Set TAXONOMIST_PUBLIC_URL or TAXONOMIST_BROWSER_URL to "
                "the address by which it is reached, or name the host in TAXONOMIST_ALLOWED_HOSTS."
            )
        if method in {"GET", "HEAD", "OPTIONS"}:
            return None
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"none")
        if origin:
            if origin not in self._origins | {f"http://{host}", f"https://{host}"}:
                return 403, f"A page of {origin[:100]!r} must not send this request."
        elif site not in {b"none", b"same-origin"}:
            return 403, "A page of another site must not send this request."
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if takes_forms and method == "POST" and kind == "application/x-www-form-urlencoded":
            if origin or site == b"same-origin":
                return None
            return 403, "The browser does not say that a page of this server sends the form."
        if kind != "application/json":
            return 415, "Send JSON, with the header Content-Type: application/json."
        return None

    def _is_ours(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts[1] or parts[2]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            name = name.removesuffix(".")
            return name in self._names or name.endswith(self._suffixes)
        return True


def _ascii(host: str) -> str:
    """Return a host as browsers send it: an international one in Punycode. A pattern begins with "*."."""
    mark = "*." if host.startswith("*.") else ""
    try:
        return mark + httpx.URL(scheme="http", host=host.removeprefix(mark)).raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError):
        return host


def _origins(url: str) -> set[str]:
    """Return the origin of pages at an address, as browsers name it, and as it is written."""
    parts = urlsplit(url)
    host = _ascii(parts.hostname or "")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, {"http": 80, "https": 443}[parts.scheme]} else f":{parts.port}"
    return {f"{parts.scheme}://{host}{port}", f"{parts.scheme}://{parts.netloc}".lower()}
