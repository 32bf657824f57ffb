"""Checks of the address at which browsers find our pages, where it is another one than Label Studio's way to us."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx

from taxonomist.backend.connection.doctor.result import Check, failed, passed, warned
from taxonomist.backend.services import Services
from taxonomist.backend.services.one_address import one_address
from taxonomist.storage.network.http_clients import http_client, reason_and_fix
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.taxonomy.numbers import is_number

NAME = "page address"


def checks(services: Services, projects: Iterable[str]) -> Iterator[Check]:
    """Yield what a browser finds at the address of the pages: a page, and nothing that Label Studio alone may call."""
    settings = services.settings
    page_url = settings.page_url
    if page_url == settings.url:
        return
    try:
        with http_client(page_url, timeout=5) as client:
            page = client.get(f"{page_url}/similar").status_code
            protocol = client.get(f"{page_url}/metrics").status_code
    except (httpx.HTTPError, httpx.InvalidURL, ConfigError) as error:
        reason, _ = reason_and_fix(error)
        yield warned(NAME, f"{page_url} cannot be asked from this machine ({reason})", "open it in a browser")
        return
    if page != 400:  # the page asks for a project
        fix = f"let the proxy there forward it to {settings.url}, or correct TAXONOMIST_BROWSER_URL"
        yield failed(NAME, f"{page_url} does not lead to this server ({page})", fix)
    elif protocol != 404:
        fix = "let the proxy send X-Forwarded-For (docs/how-to/reverse-proxy.md)"
        yield failed(NAME, f"{page_url}/metrics answers {protocol}: more than pages can be called there", fix)
    else:
        shared = [name for name in projects if is_number(name) and one_address(services, name) is not None]
        what = "one address with Label Studio" if shared else "an address of their own"
        yield passed(NAME, f"{page_url} has the pages alone; they have {what}")
