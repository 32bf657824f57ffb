"""Our server below a path of a reverse proxy, such as https://host/taxonomist.

Links on our pages are relative, so they hold below any path. `BelowPath` moves the path from the request to WSGI's
`SCRIPT_NAME`, from which Flask makes redirects and absolute links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from taxonomist.backend.settings import Settings
from taxonomist.backend.web.callers.caller import Proxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.~-]+)+", re.ASCII)  # "//other" would lead browsers to another host


class BelowPath:
    """A WSGI application that a proxy may serve below the path of `public_url` or `browser_url`.

    The proxy may keep the path in its requests, or remove it. Where it names the path that it removed, in
    `X-Forwarded-Prefix`, the header is used if it has one of these two paths, or a plain path from a proxy of the
    setting `trusted_proxies`. It is ignored otherwise, since every client can send it.
    """

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        self._proxies = Proxies(settings)
        paths = {urlsplit(url).path for url in (settings.url, settings.page_url)} - {""}
        self._paths = [_as_in_wsgi(path) for path in sorted(paths, key=len, reverse=True)]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("SCRIPT_NAME"):
            removed, path = self._removed_path(environ), environ.get("PATH_INFO", "")
            kept = next((kept for kept in [*removed, *self._paths] if path.startswith(f"{kept}/")), None)
            if kept is not None:
                environ["SCRIPT_NAME"], environ["PATH_INFO"] = kept, path[len(kept) :]
            elif removed:
                environ["SCRIPT_NAME"] = removed[0]
        return self._app(environ, start_response)

    def _removed_path(self, environ: WSGIEnvironment) -> list[str]:
        """Return the path in `X-Forwarded-Prefix`, nothing where it is absent or not to be used."""
        path = unquote(environ.get("HTTP_X_FORWARDED_PREFIX", ""), "latin-1").rstrip("/")
        is_ours = path in self._paths or (
            self._proxies.trusts(environ.get("REMOTE_ADDR") or "") and _PATH.fullmatch(path)
        )
        return [path] if is_ours else []


def _as_in_wsgi(path: str) -> str:
    return unquote(path).encode().decode("latin-1")
