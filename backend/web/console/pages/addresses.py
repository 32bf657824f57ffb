"""Addresses of the console's pages, and its cookies. Links are relative: a proxy may serve them below any path."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

from flask import Response, request

_NEXT = re.compile(r"projects|project/[^/?#\\]{1,300}/[a-z-]{1,20}(?:\?[^#\\\s]{0,2000})?")


def relative_to_root(path: str) -> str:
    """Return the relative address of a path of the console from the page of this request."""
    return "../" * (request.path.count("/") - 1) + path


def link(project: str, name: str, **query: str) -> str:
    """Return the path of a page of a project, from the root of the console."""
    text = f"project/{quote(project, safe='')}/{name}"
    return f"{text}?{urlencode(query)}" if query else text


def here() -> str:
    """Return the path of this request from the root of the console, with its query."""
    path = "/".join(quote(part, safe="") for part in request.path.split("/")[1:])
    query = request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


def safe_next() -> str:
    """Return where to go after a login: one of our pages, whatever the request says."""
    wanted = request.values.get("next", "")
    return wanted if _NEXT.fullmatch(wanted) and ".." not in wanted.partition("?")[0] else "projects"


def see_other(path: str) -> Response:
    """Return an answer that sends a browser to a path of the console."""
    return Response(status=303, headers={"Location": relative_to_root(path)})


def cookie_path() -> str:
    """Return the path below which the console's cookies are sent."""
    return request.script_root or "/"


def set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    """Add a cookie of the console to an answer, for that many seconds."""
    is_https = request.is_secure or request.headers.get("Origin", "").startswith("https://")
    response.set_cookie(
        name, value, max_age=seconds, path=cookie_path(), httponly=True, samesite="Lax", secure=is_https
    )
