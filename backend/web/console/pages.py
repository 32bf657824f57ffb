"""The routes of the console. All links are relative, since a proxy may serve it below any path.

No path ends with the name of a route that Label Studio calls, or with "/": the front gives those threads of their own.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, g, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from taxonomist.backend.error_codes import http_status
from taxonomist.backend.prediction.assistance import assist_with
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.status import collect_overview, collect_projects
from taxonomist.backend.status.images import ImageFilter, collect_image, collect_image_counts, collect_images
from taxonomist.backend.status.overview import VersionFigures, collect_frame
from taxonomist.backend.web.callers.access import Access
from taxonomist.backend.web.callers.caller import Proxies
from taxonomist.backend.web.console import charts, wording
from taxonomist.backend.web.console.image_filters import choices, filter_of, query_of, quoted
from taxonomist.backend.web.console.language import Language, best_language
from taxonomist.backend.web.console.session import COOKIE, LIFE_S, Sessions, Visitor
from taxonomist.backend.web.people import AuditLog, People
from taxonomist.backend.web.thumbnails import Thumbnails, unreadable_image
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.backend.worker.served_versions import promote, roll_back
from taxonomist.taxonomy.errors import NotFoundError, TaxonomistError

log = logging.getLogger(__name__)
View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

CSP = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LANGUAGE, THEME = "taxonomist_language", "taxonomist_theme"
_STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_NEXT = re.compile(r"projects|project/[^/?#\\]{1,300}/[a-z-]{1,20}(?:\?[^#\\\s]{0,2000})?")
_DONE = {
    "retrain": "A training waits. It starts within a minute where the worker runs.",
    "promote": "The version is served now.",
    "roll-back": "The former version is served again.",
}


@dataclass(frozen=True)
class _Asset:
    digest: str
    content: bytes
    kind: str


def _assets() -> dict[str, _Asset]:
    found = {path.name: path.read_bytes() for path in _STATIC.iterdir() if path.suffix in _TYPES}
    return {
        name: _Asset(sha256(content).hexdigest()[:16], content, _TYPES[Path(name).suffix])
        for name, content in found.items()
    }


def wants_page() -> bool:
    """Return whether the request is a browser's that shows a page, and not a program's."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def relative_to_root(path: str) -> str:
    """Return the relative address of a path of the console from the page of this request."""
    return "../" * (request.path.count("/") - 1) + path


def console_pages(
    services: Services, access: Access, proxies: Proxies, people: People, use_cases: UseCases, thumbnails: Thumbnails
) -> Blueprint:
    """Return the routes of the console."""
    pages = Blueprint("console", __name__, template_folder="templates")
    sessions = Sessions(services, access, people)
    audit_log = AuditLog(services.settings.home)
    assets = _assets()

    @pages.before_request
    def look_at_visitor() -> None:
        g.language = best_language(request.cookies.get(LANGUAGE), request.headers.get("Accept-Language"))
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
            _set_cookie(response, COOKIE, sessions.cookie(g.session), LIFE_S)
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
        return page("error.html", status=status, error=text), status

    def page(template: str, **values: object) -> str:
        visitor: Visitor | None = g.visitor
        if (
            visitor is not None
            and g.session is None
            and sessions.cookie(visitor.session) != request.cookies.get(COOKIE)
        ):
            g.session = visitor.session
        language: Language = g.language
        theme = request.cookies.get(THEME)
        return render_template(
            template,
            **values,
            language=language,
            t=language.t,
            n=language.n,
            visitor=visitor,
            theme=theme if theme in ("light", "dark") else None,
            root=relative_to_root(""),
            here=_here(),
            link=_link,
            asset=lambda name: relative_to_root(f"assets/{assets[name].digest}/{name}"),
            charts=charts,
        )

    def for_leads(view: View) -> View:
        """Let leads of the project in the path see a view; send others to the login, or refuse them."""

        def guarded(**values: Any) -> ResponseReturnValue:
            visitor: Visitor | None = g.visitor
            if visitor is None:
                return _see_other(f"login?{urlencode({'next': _here()})}")
            if "project" in values:
                role = visitor.role(values["project"])
                if role is None or not services.projects.exists(values["project"]):
                    raise NotFoundError(f"Project {values['project']} is not known.")
                if role != "lead":
                    return page("error.html", status=403, error=""), 403
            if request.method == "POST" and not hmac.compare_digest(
                request.form.get("token", "").encode(), visitor.token.encode()
            ):
                return page("error.html", status=403, error="", reason="form"), 403
            return view(**values)

        guarded.__name__ = view.__name__
        return guarded  # type: ignore[return-value]

    @pages.get("/assets/<digest>/<name>")
    def asset(digest: str, name: str) -> ResponseReturnValue:
        found = assets.get(name)
        if found is None:
            raise NotFoundError("There is no such file.")
        response = Response(found.content, content_type=found.kind)
        is_this = digest == found.digest
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_this else "no-cache"
        return response

    @pages.get("/preferences")
    def preferences() -> ResponseReturnValue:
        response = _see_other(_safe_next())
        if request.args.get("language") in ("en", "de"):
            _set_cookie(response, LANGUAGE, request.args["language"], 365 * 86_400)
        if request.args.get("theme") in ("light", "dark", "auto"):
            _set_cookie(response, THEME, request.args["theme"], 365 * 86_400)
        return response

    @pages.route("/login", methods=["GET", "POST"])
    def login() -> ResponseReturnValue:
        next_path = _safe_next()
        if request.method == "GET":
            if g.visitor is not None:
                return _see_other(next_path)
            return page("login.html", next=next_path, wrong=False)
        if not sessions.is_password(request.form.get("password", "")):
            return page("login.html", next=next_path, wrong=True), 401
        g.session = sessions.new(login=True)
        return _see_other(next_path)

    @pages.post("/logout")
    @for_leads
    def logout() -> ResponseReturnValue:
        response = _see_other("login")
        response.delete_cookie(COOKIE, path=_cookie_path())
        return response

    @pages.get("/projects")
    @for_leads
    def projects() -> ResponseReturnValue:
        try:
            rows = [row for row in collect_projects(services) if g.visitor.role(row.project)]
        except NotFoundError:  # the home is empty
            rows = []
        shown = [(row, [wording.to_do(need, g.language) for need in row.needs]) for row in rows]
        return page("projects.html", rows=shown)

    @pages.get("/project/<project>/overview")
    @for_leads
    def overview(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        done = _DONE.get(request.args.get("done", ""))
        return page(
            "overview.html",
            overview=found,
            project=project,
            tab="overview",
            todo=[wording.to_do(need, g.language) for need in found.needs],
            wording=wording,
            chart=_chart(found.versions, g.language),
            done=g.language.t(done) if done else None,
        )

    @pages.get("/project/<project>/set-aside")
    @for_leads
    def set_aside(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        return page("set_aside.html", overview=found, project=project, tab="overview")

    @pages.get("/project/<project>/images")
    @for_leads
    def images(project: str) -> ResponseReturnValue:
        wanted, counts = filter_of(request.args), collect_image_counts(services, project)
        shown = collect_images(services, project, wanted, after=request.args.get("after", ""))
        return page(
            "images.html",
            **project_frame(project, "images"),
            counts=counts,
            shown=shown,
            choices=choices(counts, wanted, g.language),
            more=f"images?{query_of(wanted, after=shown.after)}" if shown.after else None,
            wording=wording,
            quoted=quoted,
        )

    @pages.get("/project/<project>/image")
    @for_leads
    def image(project: str) -> ResponseReturnValue:
        found = collect_image(services, project, request.args.get("id", ""))
        assistance = assist_with(services, use_cases.predictor, project, found.uri, submitted=True)
        return page(
            "image.html",
            **project_frame(project, "images"),
            image=found,
            groups=assistance.groups,
            wording=wording,
            quoted=quoted,
            product_query=query_of(ImageFilter(product=found.tile.product)) if found.tile.product else None,
        )

    @pages.get("/project/<project>/thumbnail")
    @for_leads
    def thumbnail(project: str) -> ResponseReturnValue:
        document = services.catalog.get(request.args.get("id", ""))
        labels = document.projects.get(project) if document and may_use(document, services.settings) else None
        if document is None or labels is None:
            raise NotFoundError(f"Project {project} has no such image.")
        is_large = request.args.get("size") == "large"
        try:
            content = thumbnails.jpeg(project, labels.uri, document.file_hash, large=is_large)
        except TaxonomistError as error:
            log.warning("project %s: no thumbnail: %s", project, error)
            return Response(unreadable_image(), content_type="image/jpeg")
        response = Response(content, content_type="image/jpeg")
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response

    def project_frame(project: str, tab: str) -> dict[str, object]:
        return {"overview": collect_frame(services, project), "project": project, "tab": tab}

    @pages.get("/project/<project>/changes")
    @for_leads
    def changes(project: str) -> ResponseReturnValue:
        found = audit_log.entries(project, limit=101, below=request.args.get("below", type=int))
        return page(
            "changes.html",
            **project_frame(project, "changes"),
            entries=found[:100],
            has_more=len(found) > 100,
            actions=wording.ACTIONS,
        )

    def change(
        project: str, action: str, template: str, act: Callable[[], object], **values: object
    ) -> ResponseReturnValue:
        """Ask for a confirmation, and for the password where it was not given lately; then act."""
        visitor: Visitor = g.visitor
        values |= {"project": project, "tab": "overview", "action": action}
        if request.method == "GET":
            return page(template, wrong=False, **values)
        if not visitor.is_confirmed:
            if not sessions.is_password(request.form.get("password", "")):
                return page(template, wrong=True, **values), 401
            g.session = sessions.confirm(visitor.session)
        before = services.registry.champion(registry_name(project))
        act()
        now = services.registry.champion(registry_name(project))
        audit_log.add(visitor.name, action, project=project, what=now or "", before=before)
        return _see_other(f"{_link(project, 'overview')}?done={action}")

    @pages.route("/project/<project>/retrain", methods=["GET", "POST"], endpoint="retrain")
    @for_leads
    def retrain_project(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        if request.method == "POST":
            use_cases.start_training(project)
            audit_log.add(g.visitor.name, "retrain", project=project)
            return _see_other(f"{_link(project, 'overview')}?done=retrain")
        return page("retrain.html", overview=found, project=project, tab="overview", action="retrain", wrong=False)

    @pages.route("/project/<project>/promote", methods=["GET", "POST"], endpoint="promote")
    @for_leads
    def promote_version(project: str) -> ResponseReturnValue:
        found, version = collect_overview(services, project), request.values.get("version", "")
        wanted = next((figures for figures in found.versions if figures.version == version), None)
        if wanted is None:
            raise NotFoundError(f"Project {project} has no version {version}.")
        return change(
            project,
            "promote",
            "promote.html",
            lambda: promote(services, project, version),
            overview=found,
            version=wanted,
            wording=wording,
        )

    @pages.route("/project/<project>/roll-back", methods=["GET", "POST"], endpoint="roll_back")
    @for_leads
    def roll_back_project(project: str) -> ResponseReturnValue:
        found = collect_overview(services, project)
        return change(project, "roll-back", "roll_back.html", lambda: roll_back(services, project), overview=found)

    return pages


def _chart(versions: Sequence[VersionFigures], language: Language) -> object:
    """Return the chart of the versions: macro-F1 on unseen products, and the share of suggestions that were right."""
    known = [version for version in versions if version.macro_f1]
    if not known:
        return None
    right = [version.right(blind=False) for version in known]
    return charts.lines(
        [version.version for version in known],
        [version.served or version.promoted is not False for version in known],
        [
            charts.Line(
                tuple(sum(v.macro_f1.values()) / len(v.macro_f1) if v.test_images else None for v in known), "f1"
            ),
            charts.Line(tuple(good / all_ if all_ else None for good, all_ in right), "right"),
        ],
        language.t("Macro-F1 on unseen products, and right suggestions, by version"),
    )


def _link(project: str, name: str, **query: str) -> str:
    """Return the path of a page of a project, from the root of the console."""
    text = f"project/{quote(project, safe='')}/{name}"
    return f"{text}?{urlencode(query)}" if query else text


def _here() -> str:
    """Return the path of this request from the root of the console, with its query."""
    path = "/".join(quote(part, safe="") for part in request.path.split("/")[1:])
    query = request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


def _safe_next() -> str:
    """Return where to go after a login: one of our pages, whatever the request says."""
    wanted = request.values.get("next", "")
    return wanted if _NEXT.fullmatch(wanted) and ".." not in wanted.partition("?")[0] else "projects"


def _see_other(path: str) -> Response:
    return Response(status=303, headers={"Location": relative_to_root(path)})


def _cookie_path() -> str:
    return request.script_root or "/"


def _set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    is_https = request.is_secure or request.headers.get("Origin", "").startswith("https://")
    response.set_cookie(
        name, value, max_age=seconds, path=_cookie_path(), httponly=True, samesite="Lax", secure=is_https
    )
