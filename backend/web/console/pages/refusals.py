"""The page for a person who may not see a page of a project. It shows nothing of the project."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, render_template, request

from taxonomist.backend.web.console.language import readers_language
from taxonomist.backend.web.console.pages.assets import Assets
from taxonomist.backend.web.console.pages.frame import THEME


def refusal_page() -> Callable[[str], Response]:
    """Return what makes the answer 403 to a request, with an English sentence that has a translation."""
    assets = Assets()

    def page(sentence: str) -> Response:
        language = readers_language(request)
        theme = request.cookies.get(THEME)
        text = render_template(
            "refused.html",
            language=language,
            t=language.t,
            sentence=language.t(sentence),
            theme=theme if theme in ("light", "dark") else None,
            asset=assets.link,
        )
        response = Response(text, 403)
        response.headers["Cache-Control"] = "no-store"
        # With one address, Label Studio shows the page in the panel.
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'self'"
        )
        return response

    return page
