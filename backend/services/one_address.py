"""Whether browsers find our pages at Label Studio's own address: below a path of it, so that both share an origin.

Then Label Studio's session cookie reaches us, the panel's address may be relative, and the panel's script may speak
with the annotation that is open beside it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from taxonomist.backend.services.services import Services
from taxonomist.backend.state.project_records import ProjectRecord


def one_address(services: Services, project: str | None) -> str | None:
    """Return the path of our pages at the address of a project's Label Studio, for None of the settings' one.

    None where they have another address.
    """
    page_url = services.settings.page_url
    if project is not None:
        url, _ = services.label_studio(project)
        return path_at_label_studio(page_url, services.projects.get(project), url)
    known = [services.settings.label_studio_url, *services.settings.label_studio_addresses]
    return _path(page_url) if any(_same_origin(page_url, url) for url in known if url) else None


def path_at_label_studio(page_url: str, record: ProjectRecord, url: str | None) -> str | None:
    """Return the path of our pages, such as `/taxonomist`, where their address has the origin of a Label Studio.

    Label Studio says in each /setup by which address it is known; `url` counts before the first one. None where it is
    another origin, or the pages have no path of their own.
    """
    known = record.label_studio_outer or url
    return _path(page_url) if known is not None and _same_origin(page_url, known) else None


def page_base(page_url: str, record: ProjectRecord, url: str | None) -> str:
    """Return what stands before the names of pages in a labelling config: their path with one address, else theirs."""
    return path_at_label_studio(page_url, record, url) or page_url


def _path(page_url: str) -> str | None:
    return urlsplit(page_url).path.rstrip("/") or None


def _same_origin(left: str, right: str) -> bool:
    return _origin(left) is not None and _origin(left) == _origin(right)


def _origin(url: str) -> tuple[str, bytes, int | None] | None:
    """Return scheme, host and port; an international host in Punycode, a port only where it is not the default."""
    try:
        parts = httpx.URL(url)
        return parts.scheme, parts.raw_host.lower(), parts.port
    except (httpx.InvalidURL, UnicodeError):
        return None
