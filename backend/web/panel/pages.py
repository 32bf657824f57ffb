"""The panel's routes: suggestions and labelled look-alikes of an image, shown beside it in Label Studio."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import unquote_plus, urlencode, urlsplit

from flask import Blueprint, Response, make_response, render_template, request
from flask.typing import ResponseReturnValue

from taxonomist.backend.error_codes import http_status
from taxonomist.backend.label_studio.requests import MAX_ADDRESS_CHARACTERS, project_id
from taxonomist.backend.prediction.assistance import assist_with
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.prediction.privacy import may_use
from taxonomist.backend.services import Services
from taxonomist.backend.services.framing import framing_sites
from taxonomist.backend.state.credentials import LOOK_ALIKES, PANEL_USE, THUMBNAIL
from taxonomist.backend.web.console.language import readers_language
from taxonomist.backend.web.panel.view import Links, panel_view
from taxonomist.backend.web.thumbnails import Thumbnails
from taxonomist.taxonomy.errors import AuthError, BadRequestError, NotFoundError, TaxonomistError

log = logging.getLogger(__name__)

USES = ("offered", "taken", "corrected")
_ESCAPED = re.compile(r"%2F|https?%3A", re.IGNORECASE)  # the whole address is escaped, not only its blanks
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors {sites}"
)
_FILES = Path(__file__).parent / "static"


@dataclass(frozen=True)
class _File:
    """A script or style: its content, and its type."""

    content: bytes
    content_type: str


def _static_files() -> tuple[str, dict[str, _File]]:
    """Return a version, which changes with the content of the files, and the files by name."""
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    found = {path.name: _File(path.read_bytes(), kinds[path.suffix]) for path in sorted(_FILES.iterdir())}
    content = b"\0".join(file.content for file in found.values())
    return hashlib.sha256(content).hexdigest()[:12], found


VERSION, FILES = _static_files()


def panel_files() -> Blueprint:
    """Return the route of the panel's script and style, which show nothing of a project."""
    files = Blueprint("panel files", __name__)

    @files.get("/panel/<version>/<name>")
    def file(version: str, name: str) -> ResponseReturnValue:
        if name not in FILES or version != VERSION:
            raise NotFoundError("There is no such file.")
        response = Response(FILES[name].content, content_type=FILES[name].content_type)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response

    return files


def panel_pages(
    services: Services, predictor: Predictor, thumbnails: Thumbnails, count_use: Callable[[str, str], None]
) -> Blueprint:
    """Return the routes of the panel. They need the project's signed key: a browser has no password.

    `count_use` gets a project and one of `USES`.
    """
    pages = Blueprint("panel", __name__, template_folder="templates")

    # Its links are relative, since a proxy may serve it below any path.
    @pages.get("/similar")
    def similar() -> ResponseReturnValue:
        project, until = _project_and_end(services, LOOK_ALIKES)
        uri = _source()
        key = services.credentials.project_key(project, THUMBNAIL, until=until)
        links = Links(
            lambda image: f"thumbnail?{urlencode({'project': project, 'key': key, 'id': image})}",
            _task_link(services, project),
        )
        found = assist_with(services, predictor, project, uri, submitted=_says_submitted())
        page = render_template(
            "panel.html",
            view=panel_view(found, links, readers_language(request)),
            version=VERSION,
            project=project,
            use_key=services.credentials.project_key(project, PANEL_USE, until=until),
        )
        return _page(page, services, project)

    @pages.get("/thumbnail")
    def thumbnail() -> ResponseReturnValue:
        project, _ = _project_and_end(services, THUMBNAIL)
        document = services.catalog.get(request.args.get("id", ""))
        labels = document.projects.get(project) if document and may_use(document, services.settings) else None
        if document is None or labels is None or not labels.accepted:
            raise NotFoundError("There is no such labelled image in this project.")
        is_large = request.args.get("size") == "large"
        content = thumbnails.jpeg(project, labels.uri, document.file_hash, large=is_large)
        response = Response(content, content_type="image/jpeg")
        response.headers["Content-Security-Policy"] = f"frame-ancestors {framing_sites(services, project).header}"
        response.headers["Cache-Control"] = "private, max-age=86400"
        return response

    @pages.post("/panel/use")
    def use() -> ResponseReturnValue:
        body = request.get_json(silent=True)
        body = body if isinstance(body, dict) else {}
        project, key, what = project_id(request.args.get("project", "")), str(body.get("key")), body.get("use")
        services.credentials.check_project_key(project, key, PANEL_USE)
        if what not in USES or not services.projects.exists(project):
            raise BadRequestError(f"The use is one of {', '.join(USES)}.")
        count_use(project, what)
        return "", 204

    @pages.errorhandler(TaxonomistError)
    def explain(error: TaxonomistError) -> ResponseReturnValue:
        log.warning("%s %s: %s", request.method, request.path, error)
        status, sentence = _in_words(error)
        language = readers_language(request)
        content = render_template("problem.html", sentence=language.t(sentence), language=language, version=VERSION)
        response = _page(content, services, request.args.get("project", ""))
        response.headers["Cache-Control"] = "no-store"
        return response, status

    return pages


def _page(content: str, services: Services, project: str) -> Response:
    response = make_response(content)
    known = project if project.isdecimal() and services.projects.exists(project) else None
    response.headers["Content-Security-Policy"] = _CSP.format(sites=framing_sites(services, known).header)
    response.headers["Cache-Control"] = "private, max-age=5"  # Label Studio requests the page twice per task
    response.headers["Referrer-Policy"] = "no-referrer"
    response.vary.update(("Accept-Language", "Cookie"))
    return response


def _in_words(error: TaxonomistError) -> tuple[int, str]:
    """Return status and sentence for an annotator. A browser would answer 401 with a dialog for a password."""
    match error:
        case AuthError():
            return 403, "This panel may not be shown: its address has ended or is wrong. Tell your project lead."
        case NotFoundError():
            sentence = "There is nothing at this address. Tell your project lead."
        case BadRequestError():
            sentence = "The address of this panel is not complete, or too long. Tell your project lead."
        case _:
            sentence = "The panel cannot be shown at the moment. Label the image as you see it."
    return http_status(error), sentence


def _project_and_end(services: Services, page: str) -> tuple[str, date]:
    """Return the project of a request and the last day of its key."""
    project, key = project_id(request.args.get("project", "")), request.args.get("key", "")
    former_until = services.projects.get(project).former_keys_until
    until = services.credentials.check_project_key(project, key, page, former_until=former_until)
    if not services.projects.exists(project):  # it was forgotten: nothing of it is stored again
        raise NotFoundError(f"Project {project} is not known.")
    return project, until


def _source() -> str:
    """Return the image's address: everything after `src=`, which comes last, since Label Studio does not escape it."""
    _, mark, raw = request.query_string.decode("utf-8", "replace").partition("src=")
    if not mark or not raw:
        raise BadRequestError("The address needs src=… with the image, as its last part.")
    if len(raw) > MAX_ADDRESS_CHARACTERS:
        raise BadRequestError(f"The image's address has {len(raw):,} characters, more than {MAX_ADDRESS_CHARACTERS:,}.")
    return unquote_plus(raw) if _ESCAPED.match(raw) else raw


def _says_submitted() -> bool:
    """Return whether our script says that the person has submitted; what follows `src=` is the image's address."""
    return "&submitted=1" in request.query_string.decode("utf-8", "replace").partition("&src=")[0]


def _task_link(services: Services, project: str) -> Callable[[str], str] | None:
    """Return what makes the address of a task in Label Studio, None where its address is not known.

    Of several addresses that a Label Studio has, the browser gets the one at which it shows the panel.
    """
    urls = (services.label_studio(project)[0], *services.label_studio_addresses(project))
    known = [url.rstrip("/") for url in urls if url]
    if not known or not project.isdecimal():
        return None
    shown_at = urlsplit(request.referrer or "")
    url = next((url for url in known if urlsplit(url)[:2] == shown_at[:2]), known[0])
    return lambda task: f"{url}/projects/{project}/data?task={task}"
