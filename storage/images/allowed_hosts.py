"""The hosts from which images may be fetched."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from taxonomist.storage.images.ip_networks import is_metadata_host
from taxonomist.taxonomy.errors import ConfigError, ImageForbiddenError

__all__ = ["AllowedHosts", "Target"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """The destination of a request. `public_only`: all IP addresses of the host must be public."""

    scheme: str
    host: str
    port: int
    public_only: bool

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port, to which credentials belong."""
        return (self.scheme, self.host, self.port)

    @property
    def place(self) -> str:
        """The host, with the port unless it is the default one of the scheme."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


class AllowedHosts:
    """The setting `allowed_image_hosts`.

    An entry is "host" (on the default port of the scheme) or "host:port", which allows exactly this host with any IP
    address, or "*.suffix", which allows all hosts below the suffix that resolve to public IP addresses only. Raises
    `ConfigError` for other entries.
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
                f'"{entry}" in TAXONOMIST_ALLOWED_IMAGE_HOSTS is not a host.',
                hint='Write "images.example.com", "10.0.0.5:8080" or "*.example.com".',
            )
        self._exact.add((parts.hostname, port))

    def check(self, url: str) -> Target:
        """Return the target of an allowed URL.

        Raises `ImageForbiddenError` when the URL is not http(s), has credentials or another host.
        """
        target = self.target(url)
        default = target.port == _PORTS[target.scheme]
        if (target.host, target.port) in self._exact or (default and (target.host, None) in self._exact):
            if is_metadata_host(target.host):
                raise ImageForbiddenError(
                    f'Images are not fetched from "{target.host}": machines find credentials there.'
                )
            return target
        if default and any(target.host.endswith(suffix) for suffix in self._suffixes):
            return Target(target.scheme, target.host, target.port, public_only=True)
        raise ImageForbiddenError(
            f'Images are not fetched from "{target.place}".',
            hint=f'Add "{target.place}" to TAXONOMIST_ALLOWED_IMAGE_HOSTS if you trust it.',
        )

    @staticmethod
    def target(url: str) -> Target:
        """Return the target of a URL with any host. Raises `ImageForbiddenError` as `check` does."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise ImageForbiddenError(f"This is not a valid URL of an image ({error}).") from error
        if parts.scheme not in _PORTS or not host:
            raise ImageForbiddenError(f'Images are fetched by http and https only, not by "{parts.scheme}:".')
        if parts.username is not None or parts.password is not None:
            raise ImageForbiddenError(f"The URL of an image on {host} contains a user name or a password.")
        return Target(parts.scheme, host.lower(), port or _PORTS[parts.scheme], public_only=False)
