"""The proxies of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from taxonomist.taxonomy.errors import ConfigError

__all__ = ["Proxy", "is_reached_directly", "parse_proxy", "proxy_for"]

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(?:[^@/?#\s]*@)?(?P<host>\[[\da-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d+))?/?")


@dataclass(frozen=True)
class Proxy:
    """A proxy and the variable that names it. Its `url` may have a password, which texts do not show."""

    variable: str
    host: str
    port: int
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port} ({self.variable})"


def parse_proxy(text: str, variable: str) -> Proxy:
    """Return the proxy at an address such as `http://user:password@host:3128`; `host:3128` means http.

    Raises `ConfigError` that names the variable, without any part of the address.
    """
    text = text.strip()
    scheme, _, rest = text.partition("://") if "://" in text else ("http", "", text)
    scheme = scheme.lower()
    parts = _AUTHORITY.fullmatch(rest) if scheme in _PORTS else None
    port = int(parts["port"] or _PORTS[scheme]) if parts else 0
    if parts is None or not 0 < port < 2**16:
        kind = ", but of one by SOCKS" if scheme.startswith("socks") else ""
        raise ConfigError(
            f"{variable} is not the address of a proxy by http or https{kind}.",
            hint=f"Set {variable} to http://host:port. In a password, write @ as %40, / as %2F and # as %23.",
        )
    return Proxy(variable, parts["host"].strip("[]").lower(), port, f"{scheme}://{rest}")


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which the environment lets this address be reached, None for a direct connection.

    Raises `ConfigError` for a proxy that cannot be used.
    """
    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme
    known = urllib.request.getproxies()  # of the environment, else of the system (macOS, Windows)
    name = next((name for name in (scheme, "all") if known.get(name)), None)
    if name is None or is_reached_directly(host, parts.port or _PORTS.get(scheme, 0)):
        return None
    variable = next(
        (spelling for spelling in (f"{name}_proxy", f"{name.upper()}_PROXY") if os.environ.get(spelling)), ""
    )
    return parse_proxy(known[name], variable or "the system's settings")


def is_reached_directly(host: str, port: int) -> bool:
    """Return whether no proxy is asked for this host: loopback, link-local, or named by `NO_PROXY`.

    An entry is a host with all hosts below it (`corp.example`, `.corp.example` or `*.corp.example`), an IP address or
    network (`10.0.0.0/8`), each also with a port, or `*` for all.
    """
    host = host.strip("[]").rstrip(".").lower()
    address = _address(host)
    is_near = address is not None and (address.is_loopback or address.is_link_local or address.is_unspecified)
    if is_near or host == "localhost" or host.endswith(".localhost"):
        return True
    text = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    entries = [entry for entry in re.split(r"[,\s]+", text.lower()) if entry]
    if any(_matches(entry, host, port, address) for entry in entries):
        return True
    return bool(host) and bool(urllib.request.proxy_bypass(host))  # the system's exceptions (macOS, Windows)


def _matches(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    if with_port := re.fullmatch(r"(\[[^]]*\]|[^:]*):(\d+)", entry):
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
    entry = entry.strip("[]")
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except (ValueError, TypeError):
            return False
    name = entry.removeprefix("*").lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
