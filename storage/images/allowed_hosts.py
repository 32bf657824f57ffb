"""Which hosts images may be fetched from, and whether an address is public."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError

__all__ = ["AllowedHosts", "Target", "is_public"]

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Target:
    """Where a request would go. `public_only`: every address of the host must be a public one."""

    scheme: str
    host: str
    port: int
    public_only: bool

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials belong to."""
        return (self.scheme, self.host, self.port)


class AllowedHosts:
    """The setting `allowed_image_hosts`: "host" (at the scheme's own port) or "host:port", exactly these, wherever
    they are; "*.suffix" any host below that resolves to public addresses only.

    Raises `ConfigError` for an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._exact: set[tuple[str, int | None]] = set()
        self._suffixes: set[str] = set()
        for entry in entries:
            self._add(entry)

    def _add(self, entry: str) -> None:
        text = entry.strip().lower()
        if text.startswith("*.") and len(text) > 2 and not set("*:/@") & set(text[1:]):
            self._suffixes.add(text[1:])
            return
        try:
            parts = urlsplit(f"//{text}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if not parts.hostname or parts.path or parts.query or "@" in text or "*" in text:
            raise ConfigError(
                f'"{entry}" in allowed_image_hosts is not a host.',
                hint='Write "images.example.com", "10.0.0.5:8080" or "*.example.com".',
            )
        self._exact.add((parts.hostname, port))

    def check(self, url: str) -> Target:
        """Raises `ImageForbiddenError` when the URL is not http(s), carries credentials or goes to another host."""
        target = self.target(url)
        default = target.port == _PORTS[target.scheme]
        if (target.host, target.port) in self._exact or (default and (target.host, None) in self._exact):
            return target
        if default and any(target.host.endswith(suffix) for suffix in self._suffixes):
            return Target(target.scheme, target.host, target.port, public_only=True)
        name = target.host if default else f"{target.host}:{target.port}"
        raise ImageForbiddenError(
            f'Images are not fetched from "{name}".', hint=f'Add "{name}" to allowed_image_hosts if you trust it.'
        )

    @staticmethod
    def target(url: str) -> Target:
        """Take a URL apart, whatever the host. Raises `ImageForbiddenError` as `check` does."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise ImageForbiddenError(f"This is not an address of an image ({error}).") from error
        if parts.scheme not in _PORTS or not host:
            raise ImageForbiddenError(f'Images are fetched by http and https only, not by "{parts.scheme}:".')
        if parts.username is not None or parts.password is not None:
            raise ImageForbiddenError(f"The address of an image on {host} carries a user or a password.")
        return Target(parts.scheme, host.lower(), port or _PORTS[parts.scheme], public_only=False)


def is_public(address: str) -> bool:
    """Whether an IP address can be reached from the whole internet, also when it is wrapped in an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
