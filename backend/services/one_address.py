"""Whether browsers find our pages at Label Studio's own address: below a path of it, so that both share an origin.

Then Label Studio's session cookie reaches us, the panel's address may be relative, and the panel's script may speak
with the annotation that is open beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx

from taxonomist.backend.services.services import Services


def path_at_label_studio(page_url: str, addresses: Iterable[str]) -> str | None:
    """Return the path of our pages, such as `/taxonomist`, where their address has the origin of one of Label Studio's.

    None where it has another origin, or no path of its own.
    """
    path, ours = urlsplit(page_url).path.rstrip("/"), _origin(page_url)
    is_shared = ours is not None and any(_origin(address) == ours for address in addresses)
    return path if path and is_shared else None


def one_address(services: Services, project: str | None) -> str | None:
    """Return the path of our pages at the address of a project's Label Studio, for None of the settings' one.

    None where they have another address.
    """
    known = [services.label_studio(project)[0], *services.label_studio_addresses(project)]
    return path_at_label_studio(services.settings.page_url, filter(None, known))


def _origin(url: str) -> tuple[str, bytes, int | None] | None:
    """Return scheme, host and port; an international host in Punycode, a port only where it is not the default."""
    try:
        parts = httpx.URL(url)
        return parts.scheme, parts.raw_host.lower(), parts.port
    except (httpx.InvalidURL, UnicodeError):
        return None
