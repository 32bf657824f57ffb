"""Who sends a request, as its connection and its headers say."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taxonomist.backend.settings import LOOPBACK_HOSTS, Settings
from taxonomist.backend.state.credentials import SECRET_HEADER

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Headers that proxies, load balancers and content delivery networks add; the names are without dashes and other marks.
# Programs on this machine send none of them.
_FORWARDING = re.compile(
    r"forward|proxy|proxied|clientip|clientaddr|realip|remoteip|remoteaddr|remotehost|remoteuser|connectingip|userip|useraddr"
    r"|^via$|^xvia|^xoriginal|^xhost$|^xport$|^xscheme|^xurlscheme|^xssl|^frontendhttps|^xenvoy|^xazure|^xarr|^xvarnish"
    r"|^xamz|^xappengine|^xcluster|^xcomingfrom|^comingfrom|^cf|^cdn|^xcdn|^fastly|^fly|^akamai|^xakamai|^xvercel|^trueclient"
    r"|^surrogate|^xtraefik|^xnginx|^xhaproxy|^xcloud|^xgooglegfe|^xsquid|^xcache"
)
_MARKS = re.compile(r"[^a-z0-9]+")
_BROWSER = frozenset({"origin", "referer", "cookie"})
_BROWSER_STARTS = ("sec-fetch-", "sec-ch-")
_IN_ENVIRON = "taxonomist.caller"


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    `address` is that of the caller's machine, of the proxy's where a proxy that is not configured stands before it.
    `is_direct`: it is on this machine, no proxy forwards the request, and none is expected, since the settings name no
    address but this machine's own. `is_browser`: a web page may have sent it. `is_forwarded`: a proxy says so.
    """

    address: str
    is_direct: bool
    is_browser: bool
    authorization: str | None
    secret: str | None
    is_forwarded: bool = False

    @property
    def is_local_program(self) -> bool:
        """Whether a program on this machine calls: no other machine behind a proxy, no page in a browser."""
        return self.is_direct and not self.is_browser


class Proxies:
    """The proxies whose forwarding headers count, from the setting `trusted_proxies`."""

    def __init__(self, settings: Settings) -> None:
        self._networks = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies]
        self._is_public = _is_public(settings)

    def trusts(self, address: str) -> bool:
        """Return whether an address is that of a configured proxy."""
        ip = _parsed(address)
        return ip is not None and any(ip in network for network in self._networks)

    def caller(self, headers: Iterable[tuple[str, str]], peer: str) -> Caller:
        """Return who sends a request with these headers over a connection from the address `peer`."""
        found: dict[str, str] = {}
        for name, value in headers:
            name = name.lower()
            found[name] = f"{found[name]},{value}" if name in found else value
        is_forwarded = any(_is_of_proxy(name[:100]) for name in found)
        is_browser = any(name in _BROWSER or name.startswith(_BROWSER_STARTS) for name in found)
        ip = _parsed(peer)
        return Caller(
            self._origin(peer, found.get("x-forwarded-for", "")),
            is_direct=ip is not None and ip.is_loopback and not (is_forwarded or self._is_public),
            is_browser=is_browser,
            authorization=found.get("authorization"),
            secret=found.get(SECRET_HEADER.lower()),
            is_forwarded=is_forwarded,
        )

    def caller_in(self, environ: WSGIEnvironment) -> Caller:
        """Return who sends a request of WSGI: the caller that `put_caller` left there, else what its headers say."""
        if isinstance(caller := environ.get(_IN_ENVIRON), Caller):
            return caller
        headers = [
            (name[5:].replace("_", "-"), str(value)) for name, value in environ.items() if name.startswith("HTTP_")
        ]
        return self.caller(headers, environ.get("REMOTE_ADDR") or "")

    def _origin(self, peer: str, forwarded_for: str) -> str:
        """Return the last address of the chain `forwarded_for` that is not a configured proxy."""
        address = peer
        for hop in reversed(forwarded_for.split(",")[-10:]):
            if not self.trusts(address) or _parsed(hop.strip()) is None:
                break
            address = hop.strip()
        return address


def _is_public(settings: Settings) -> bool:
    """Return whether the settings name an address besides this machine's own: a proxy that says nothing of itself may
    then stand before the server, and make everybody look local."""
    host = urlsplit(settings.public_url or "http://localhost").hostname or ""
    is_own = host in LOOPBACK_HOSTS or host.startswith("127.")
    return not is_own or settings.page_url != settings.url


def put_caller(environ: WSGIEnvironment, caller: Caller) -> None:
    """Leave the caller in the environment of a request of WSGI."""
    environ[_IN_ENVIRON] = caller


@lru_cache(maxsize=1024)
def _is_of_proxy(name: str) -> bool:
    return _FORWARDING.search(_MARKS.sub("", name)) is not None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address; the IPv4 address in an IPv6 address that stands for one."""
    return _parsed_ip(address[:100])  # so that little is kept of what a client sends


@lru_cache(maxsize=1024)
def _parsed_ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
