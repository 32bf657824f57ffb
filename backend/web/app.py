"""The web application: Label Studio's routes, the look-alike page, the console, and the routes for operators.

`/health` and `/setup` load no model, since Label Studio waits one and three seconds for them. A webhook is answered
after the journal has committed it; the worker does the rest.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from pydantic_core import from_json
from werkzeug.exceptions import HTTPException

from taxonomist.backend.error_codes import http_status
from taxonomist.backend.label_studio.predictions import model_version_name
from taxonomist.backend.label_studio.requests import parse_predict, parse_setup, project_id
from taxonomist.backend.label_studio.webhooks import ReceivedWebhook, parse_webhook
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.status.counts import answers_of
from taxonomist.backend.web.callers.access import Access
from taxonomist.backend.web.callers.caller import Caller, Proxies
from taxonomist.backend.web.console.pages import console_pages, refusal_page, wants_page
from taxonomist.backend.web.metrics import Metrics
from taxonomist.backend.web.panel import panel_files, panel_pages
from taxonomist.backend.web.path_prefix import BelowPath
from taxonomist.backend.web.people import PagesOfPeople, People
from taxonomist.backend.web.readiness import Readiness
from taxonomist.backend.web.thumbnails import Thumbnails
from taxonomist.backend.web.use_cases import Receipt, Recorded, UseCases
from taxonomist.backend.worker.repaired_records import restore_missing
from taxonomist.storage.files import disk_error
from taxonomist.storage.home.version_file import home_version
from taxonomist.storage.network.host_breaker import HOSTS
from taxonomist.storage.set_aside import ItemKind
from taxonomist.taxonomy.errors import BadRequestError, NotFoundError, StorageError, TaxonomistError

log = logging.getLogger(__name__)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # half of a character
_SURROGATE_STARTS = (rb"\ud", rb"\uD", b"\xed")  # found much faster than by the expression
_CALLS = ("webhook", "predict", "setup", "train")
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_VALUES = 1_000_000
"""Values of a body. As many lists take 64 MB once they are parsed; what fits into a body would take 400."""


def make_routes(settings: Settings, services: Services | None = None) -> Routes:
    """Return the routes' functions. Raises what `Services.home` raises."""
    routes = Routes(services or Services(settings))
    routes.services.open_existing_home()
    if home_version(routes.services.settings.home) is not None:
        restore_missing(routes.services)
    return routes


def create_app(settings: Settings, services: Services | None = None, *, routes: Routes | None = None) -> Flask:
    """Return the WSGI application. Loads no model and sends nothing over the network, unless it migrates the home.

    Raises what `Services.home` raises.
    """
    routes = routes or make_routes(settings, services)
    app = Flask("taxonomist.backend.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.wsgi_app = BelowPath(app.wsgi_app, settings)  # type: ignore[method-assign]
    app.add_url_rule("/", "root", routes.root)
    app.add_url_rule("/health", "health", routes.health)
    app.add_url_rule("/setup", "setup", routes.setup, methods=["POST"])
    app.add_url_rule("/predict", "predict", routes.predict, methods=["POST"])
    app.add_url_rule("/webhook", "webhook", routes.webhook, methods=["POST"])
    app.add_url_rule("/train", "train", routes.train, methods=["POST"])
    app.add_url_rule("/versions", "versions", routes.versions)
    app.add_url_rule("/livez", "livez", lambda: jsonify(status="alive"))
    app.add_url_rule("/readyz", "readyz", routes.ready)
    app.add_url_rule("/metrics", "metrics", routes.metrics_text)
    thumbnails = Thumbnails(routes.services)
    pages = panel_pages(routes.services, routes.use_cases.predictor, thumbnails, routes.metrics.count_panel_use)
    PagesOfPeople(routes.services, routes.people, refusal_page()).guard(pages)
    app.register_blueprint(pages)
    app.register_blueprint(panel_files())
    app.register_blueprint(
        console_pages(routes.services, routes.access, routes.proxies, routes.people, routes.use_cases, thumbnails)
    )
    app.register_error_handler(Exception, _explain)
    app.before_request(_start_clock)
    app.after_request(routes.count)
    return app


@dataclass(frozen=True)
class WebhookAnswer:
    """The answer to the webhook with this number in its group."""

    number: int
    status: int
    content: dict[str, Any]


class Routes:
    """What the routes do. One object for all threads of the server."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.use_cases = UseCases(services)
        self.access = Access(services)
        self.proxies = Proxies(services.settings)
        self.people = People(services)
        self.readiness = Readiness(services)
        self.metrics = Metrics()
        self.shown_models: dict[str, str] = {}  # by project, the version whose figures /metrics shows

    def health(self) -> ResponseReturnValue:
        return jsonify(status="UP", model_class="Taxonomist", v2=True)

    def root(self) -> ResponseReturnValue:
        """Send browsers to the console; Label Studio asks here, too, whether the server is up."""
        if wants_page():
            return Response(status=302, headers={"Location": "projects", "Vary": "Accept"})
        return self.health()

    def setup(self) -> ResponseReturnValue:
        caller = self._checked_caller()
        body = parse_setup(_json())
        self.access.check_project(caller, body.project)
        is_authenticated = self.access.is_authenticated(caller)
        version = self.use_cases.set_up(body, authenticated=is_authenticated, local=caller.is_local_program)
        return jsonify(model_version=version)

    def predict(self) -> ResponseReturnValue:
        caller = self._checked_caller()
        body = parse_predict(_json())
        self.access.check_project(caller, body.project)
        answer = self.use_cases.answer(body)
        self.metrics.tasks.labels("suggested").inc(answer.suggested)
        self.metrics.tasks.labels("listed").inc(answer.listed)
        self.metrics.tasks.labels("empty").inc(answer.empty)
        return jsonify(results=answer.predictions)

    def webhook(self) -> ResponseReturnValue:
        webhook = self._read_webhook(request.get_data(), self.proxies.caller_in(request.environ), set())
        content, status = self._answer_webhook(self.use_cases.receive(webhook))
        return jsonify(content), status

    def take_webhooks(self, requests: Sequence[tuple[bytes, Caller]]) -> Iterator[list[WebhookAnswer]]:
        """Take webhooks, whose events share a commit, and yield their answers, as the WSGI application gives them.

        Those that ask for more, such as a training, come last, each by itself.
        """
        started = time.perf_counter()
        read: dict[int, ReceivedWebhook] = {}
        results: dict[int, Recorded | Exception] = {}
        allowed: set[tuple[Caller, str]] = set()
        for number, (body, caller) in enumerate(requests):
            try:
                read[number] = self._read_webhook(body, caller, allowed)
            except Exception as error:
                results[number] = error
        results |= zip(read, self.use_cases.record(list(read.values())), strict=True)

        def answer(number: int, result: Recorded | Exception) -> WebhookAnswer:
            try:
                if isinstance(result, Exception):
                    raise result
                content, status = self._answer_webhook(self.use_cases.follow(result))
            except Exception as error:
                content, status = _explained(error, "POST", "/webhook")
            return WebhookAnswer(number, status, content)

        later = [number for number, result in results.items() if isinstance(result, Recorded) and result.has_more]
        answers = [answer(number, result) for number, result in results.items() if number not in later]
        self._count("/webhook", [found.status for found in answers], started)
        yield answers
        for number in later:
            alone = answer(number, results[number])
            self._count("/webhook", [alone.status], started)
            yield [alone]

    def count_refused(self, path: str, status: int) -> None:
        """Count a request that was refused before its body was read. `path` is the last part of its path."""
        self.metrics.requests.labels(f"/{path}" if path in _CALLS else "unknown", str(status)).inc()

    def _read_webhook(self, body: bytes, caller: Caller, allowed: set[tuple[Caller, str]]) -> ReceivedWebhook:
        """Return a webhook of a caller that may send it; `allowed` are those of the same moment that are known to."""
        self.access.check(caller, webhook=True)
        webhook = parse_webhook(_quickly_parsed(body), known_config=self.use_cases.known_config)
        if (caller, webhook.project) not in allowed:
            self.access.check_project(caller, webhook.project, webhook=True)
            allowed.add((caller, webhook.project))
        return webhook

    def _answer_webhook(self, receipt: Receipt) -> tuple[dict[str, Any], int]:
        if receipt.ignored:
            self.metrics.events.labels("ignored").inc()
        self.metrics.new_events.inc(receipt.new)
        self.metrics.known_events.inc(receipt.known)
        if receipt.training:
            return receipt.training.to_json(), 201
        return {"status": "ok", "new": receipt.new, "ignored": receipt.ignored}, 201

    def train(self) -> ResponseReturnValue:
        caller = self._checked_caller()
        body = _json()
        if not isinstance(body, dict) or body.get("project") is None:
            raise BadRequestError('Name the project to train: {"project": 4}.')
        project = project_id(body["project"])
        self.access.check_project(caller, project)
        return jsonify(self.use_cases.start_training(project).to_json()), 201

    def versions(self) -> ResponseReturnValue:
        self._check_reader()
        project = request.args.get("project")
        return jsonify(versions=self.use_cases.model_versions(project_id(project) if project else None))

    def ready(self) -> ResponseReturnValue:
        try:
            pending = self.services.journal.pending()
            self.services.registry.champion("backbone")
            problem = self.readiness.problem()
        except StorageError as error:
            return jsonify(status="not ready", reason=str(error)), 503
        worker = self.readiness.worker()
        if problem is not None:
            return jsonify(status="not ready", reason=problem, worker=worker, journal_pending=pending), 503
        return jsonify(status="ready", worker=worker, journal_pending=pending)

    def metrics_text(self) -> ResponseReturnValue:
        self._check_reader()
        self.metrics.pending.set(self.services.journal.pending())
        self.metrics.waiting.set(len(self.services.jobs.waiting()))
        counts = self.services.journal.set_aside.counts()
        for kind in ItemKind:
            self.metrics.set_aside.labels(kind).set(sum(count for (_, of), count in counts.items() if of == kind))
        self.metrics.unavailable_hosts.set(len(HOSTS.unavailable()))
        self._show_models()
        age = heartbeat.age(self.services.settings.home)
        self.metrics.worker_age.set(float("nan") if age is None else age)
        return Response(self.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def _show_models(self) -> None:
        """Show the figures of each served model; a manifest is read once per version."""
        champions = self.services.registry.champions()
        for record in self.services.projects:
            version = champions.get(registry_name(record.project))
            if version is None:
                continue
            try:
                if self.shown_models.get(record.project) != version:
                    manifest = self.services.registry.get(registry_name(record.project), version).head_manifest
                    self.metrics.show_model(record.project, version, manifest)
                    self.shown_models[record.project] = version
                key = (record.project, model_version_name(version))
                counts, floors = answers_of(self.services, *key), self.services.suggestions.floors(*key)
            except (NotFoundError, StorageError) as error:
                log.warning("project %s: no figures of %s: %s", record.project, version, error)
                continue
            self.metrics.show_promise(record.project, version, counts, floors)

    def count(self, response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        self._count(route, [response.status_code], g.started)
        return response

    def _count(self, route: str, statuses: Sequence[int], started: float) -> None:
        """Count requests that were answered together, by their status."""
        for status, count in Counter(statuses).items():
            self.metrics.requests.labels(route, str(status)).inc(count)
        seconds, taken = self.metrics.seconds.labels(route), time.perf_counter() - started
        for _ in statuses:
            seconds.observe(taken)

    def _checked_caller(self) -> Caller:
        caller = self.proxies.caller_in(request.environ)
        self.access.check(caller)
        return caller

    def _check_reader(self) -> None:
        self.access.check_reader(self.proxies.caller_in(request.environ))


def _json() -> object:
    return _parsed(request.get_data())


def _finite(number: str) -> float | None:
    """Return the number, None for one that is too large for a float, such as 1e400: JSON cannot hold it."""
    value = float(number)
    return value if math.isfinite(value) else None


_JSON = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)  # the constants are NaN and Infinity


def _check_size(body: bytes) -> None:
    if len(body) <= MAX_VALUES:  # counting takes longer than all other checks
        return
    values = body.count(b",") + body.count(b"[") + body.count(b"{")  # at least as many as there are
    if values > MAX_VALUES:
        raise BadRequestError(f"The body has about {values:,} values; at most {MAX_VALUES:,} are read.")


def _quickly_parsed(body: bytes) -> object:
    """Return what `_parsed` does, but for a number that is too large for a float: it is infinite, not None."""
    _check_size(body)
    try:
        parsed: object = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError:  # also for what only `_parsed` mends
        return _parsed(body)
    return parsed


def _parsed(body: bytes) -> object:
    _check_size(body)
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        parsed: object = _JSON.decode(text)
        if any(start in body for start in _SURROGATE_STARTS) and _SURROGATE.search(body):  # which no file can hold
            parsed = json.loads(json.dumps(parsed, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        parsed = None
    if parsed is None:
        raise BadRequestError("The body is not JSON.")
    return parsed


def _start_clock() -> None:
    g.started = time.perf_counter()


def _explain(error: Exception) -> ResponseReturnValue:
    content, status = _explained(error, request.method, request.path)
    response = jsonify(content)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="taxonomist"'
    return response, status


def _explained(error: Exception, method: str, path: str) -> tuple[dict[str, Any], int]:
    """Log an error, and return JSON and status of the answer."""
    if isinstance(error, HTTPException):
        return {"error": error.description}, error.code or 500
    error = disk_error(error) or error
    if isinstance(error, TaxonomistError):
        status = http_status(error)
        log.log(logging.ERROR if status >= 500 else logging.WARNING, "%s %s: %s", method, path, error)
        return {"error": str(error)}, status
    log.error("%s %s", method, path, exc_info=error)
    return {"error": "Internal error; the server's log has the reason."}, 500
