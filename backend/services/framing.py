"""Which sites may show our pages in a frame: those of a project's Label Studio.

They are named in `Content-Security-Policy: frame-ancestors`, whose hosts are letters, digits, hyphens and dots
(https://www.w3.org/TR/CSP3/#grammardef-host-source). International names have such a form (Punycode). Addresses of IPv6
and names with "_" have none: Chromium ignores such a source, so that the page is not shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from taxonomist.backend.services.services import Services

_HOST = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?", re.ASCII)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class FramingSites:
    """The sites that may show our pages, and the addresses of Label Studio that no browser can be told."""

    named: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def header(self) -> str:
        """The value of `frame-ancestors`; our own pages may always."""
        return " ".join(("'self'", *self.named))

    @property
    def description(self) -> str:
        """In words, for connect and the doctor."""
        text = f"pages of {', '.join(self.named) or 'no other site'} may show it"
        if self.unnamed:
            text += f", those of {', '.join(self.unnamed)} may not: browsers cannot be told such a host"
        return text


def framing_sites(services: Services, project: str | None) -> FramingSites:
    """Return the sites of the project's Label Studio; for None, of that of the settings.

    A browser on the same machine may know one at `localhost` as `127.0.0.1`, and the other way round.
    """
    named: dict[str, None] = {}
    unnamed: dict[str, None] = {}
    for url in filter(None, (services.label_studio(project)[0], *services.label_studio_addresses(project))):
        host, port = _host_and_port(url)
        if host is None:
            unnamed[url] = None
            continue
        hosts = _LOOPBACK_NAMES if host in _LOOPBACK_NAMES else (host,)
        named |= {f"{urlsplit(url).scheme}://{host}{port}": None for host in hosts}
    return FramingSites(tuple(named), tuple(unnamed))


def _host_and_port(url: str) -> tuple[str | None, str]:
    """Return the host as the header can name it, None where it cannot, and the port with its colon."""
    try:
        parts = httpx.URL(url)
        host, port = parts.raw_host.decode("ascii"), parts.port
    except (httpx.InvalidURL, UnicodeError):
        return None, ""
    return (host if _HOST.fullmatch(host) else None), ("" if port is None else f":{port}")
