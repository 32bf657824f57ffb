"""All routes of the console: who looks at it, its headers and errors, login and preferences, and the pages by subject.

No path ends with the name of a route that Label Studio calls, or with "/": the front gives those threads of their own.
"""

from __future__ import annotations

import logging

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from taxonomist.backend.error_codes import http_status
from taxonomist.backend.services import Services
from taxonomist.backend.web.callers.access import Access
from taxonomist.backend.web.callers.caller import Proxies
from taxonomist.backend.web.console.language import LANGUAGE, readers_language
from taxonomist.backend.web.console.pages.addresses import cookie_path, safe_next, see_other, set_cookie
from taxonomist.backend.web.console.pages.assets import Assets
from taxonomist.backend.web.console.pages.bulk import add_bulk_pages
from taxonomist.backend.web.console.pages.changes import add_change_pages
from taxonomist.backend.web.console.pages.evaluation import add_evaluation_page
from taxonomist.backend.web.console.pages.frame import THEME, Frame
from taxonomist.backend.web.console.pages.images import add_image_pages
from taxonomist.backend.web.console.pages.overview import add_overview_pages
from taxonomist.backend.web.console.session import COOKIE, LIFE_S, Sessions
from taxonomist.backend.web.people import People
from taxonomist.backend.web.thumbnails import Thumbnails
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.taxonomy.errors import TaxonomistError

log = logging.getLogger(__name__)

CSP = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def wants_page() -> bool:
    """Return whether the request is a browser's that shows a page, and not a program's."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def console_pages(
    services: Services, access: Access, proxies: Proxies, people: People, use_cases: UseCases, thumbnails: Thumbnails
) -> Blueprint:
    """Return the routes of the console."""
    pages = Blueprint("console", __name__, template_folder="../templates")
    sessions, assets = Sessions(services, access, people), Assets()
    frame = Frame(services, sessions, assets)

    @pages.before_request
    def look_at_visitor() -> None:
        g.language = readers_language(request)
        caller = proxies.caller_in(request.environ)
        g.visitor = sessions.visitor(caller, request.cookies.get(COOKIE), request.headers.get("Cookie"))
        g.session = None

    @pages.after_request
    def secure(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", CSP)
        response.headers["Referrer-Policy"] = (
            "same-origin"  # with "no-referrer" forms would not say where they are from
        )
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        if g.get("session") is not None:
            set_cookie(response, COOKIE, sessions.cookie(g.session), LIFE_S)
        return response

    @pages.errorhandler(Exception)
    def show_error(error: Exception) -> ResponseReturnValue:
        if isinstance(error, HTTPException):
            status, text = error.code or 500, ""
        elif isinstance(error, TaxonomistError):
            status, text = http_status(error), str(error)
            log.log(
                logging.ERROR if status >= 500 else logging.WARNING, "%s %s: %s", request.method, request.path, error
            )
        else:
            status, text = 500, ""
            log.error("%s %s", request.method, request.path, exc_info=error)
        if g.get("visitor") is None:
            text = ""
        return frame.page("error.html", status=status, error=text), status

    @pages.get("/assets/<digest>/<name>")
    def asset(digest: str, name: str) -> ResponseReturnValue:
        return assets.answer(digest, name)

    @pages.get("/preferences")
    def preferences() -> ResponseReturnValue:
        response = see_other(safe_next())
        if request.args.get("language") in ("en", "de"):
            set_cookie(response, LANGUAGE, request.args["language"], 365 * 86_400)
        if request.args.get("theme") in ("light", "dark", "auto"):
            set_cookie(response, THEME, request.args["theme"], 365 * 86_400)
        return response

    def login_page(next_path: str, *, wrong: bool = False) -> str:
        return frame.page("login.html", next=next_path, wrong=wrong, can_log_in=sessions.has_password)

    @pages.route("/login", methods=["GET", "POST"])
    def login() -> ResponseReturnValue:
        next_path = safe_next()
        if request.method == "GET":
            if g.visitor is not None:
                return see_other(next_path)
            return login_page(next_path)
        if not sessions.is_password(request.form.get("password", "")):
            return login_page(next_path, wrong=True), 401
        g.session = sessions.new(login=True)
        return see_other(next_path)

    @pages.post("/logout")
    @frame.for_leads
    def logout() -> ResponseReturnValue:
        response = see_other("login")
        response.delete_cookie(COOKIE, path=cookie_path())
        return response

    add_overview_pages(pages, frame)
    add_image_pages(pages, frame, use_cases, thumbnails)
    add_bulk_pages(pages, frame)
    add_evaluation_page(pages, frame)
    add_change_pages(pages, frame, use_cases)
    return pages
