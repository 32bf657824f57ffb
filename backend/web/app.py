"""The web application: Label Studio's routes, the look-alike page, and what an operator watches.

`/health` and `/setup` load nothing, since Label Studio waits one and three seconds for them. A webhook is answered as
soon as the journal has committed it; everything that follows from it is the worker's.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from taxonomist.backend.error_codes import http_status
from taxonomist.backend.label_studio.protocol import (
    SetupRequest,
    label_config,
    model_version_name,
    parse_predict,
    parse_setup,
    parse_webhook,
    prediction_json,
    project_id,
)
from taxonomist.backend.prediction.predictor import Predictor
from taxonomist.backend.retraining.requests import enqueue_training
from taxonomist.backend.services import Services, registry_name
from taxonomist.backend.settings import LOOPBACK_HOSTS, Settings
from taxonomist.backend.state import heartbeat
from taxonomist.backend.state.credentials import SECRET_HEADER
from taxonomist.backend.state.jobs import JobKind
from taxonomist.backend.web.metrics import Metrics
from taxonomist.backend.web.similar_page import similar_pages
from taxonomist.taxonomy.errors import BadRequestError, ConfigError, StorageError, TaxonomistError

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024 * 1024


def create_app(settings: Settings, services: Services | None = None) -> Flask:
    """The WSGI application. Opens no model and touches no network."""
    app = Flask("taxonomist.backend.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    routes = _Routes(services or Services(settings))
    app.add_url_rule("/", "root", routes.health)
    app.add_url_rule("/health", "health", routes.health)
    app.add_url_rule("/setup", "setup", routes.setup, methods=["POST"])
    app.add_url_rule("/predict", "predict", routes.predict, methods=["POST"])
    app.add_url_rule("/webhook", "webhook", routes.webhook, methods=["POST"])
    app.add_url_rule("/train", "train", routes.train, methods=["POST"])
    app.add_url_rule("/versions", "versions", routes.versions)
    app.add_url_rule("/livez", "livez", lambda: jsonify(status="alive"))
    app.add_url_rule("/readyz", "readyz", routes.ready)
    app.add_url_rule("/metrics", "metrics", routes.metrics_text)
    app.register_blueprint(similar_pages(routes.services, routes.predictor))
    app.register_error_handler(TaxonomistError, _explain)
    app.register_error_handler(Exception, _unexpected)
    app.before_request(_start_clock)
    app.after_request(routes.count)
    return app


class _Routes:
    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.predictor = Predictor(services)
        self.metrics = Metrics()
        self._configs: dict[str, int] = {}

    def health(self) -> ResponseReturnValue:
        return jsonify(status="UP", model_class="Taxonomist", v2=True)

    def setup(self) -> ResponseReturnValue:
        self._check_call()
        body = parse_setup(_json())
        label_config(body.label_config)  # a config that we cannot serve is refused here, where a person sees it
        self._remember_setup(body)
        return jsonify(model_version=self.predictor.model_version(body.project))

    def predict(self) -> ResponseReturnValue:
        self._check_call()
        body = parse_predict(_json())
        try:
            results, late = self.predictor.predict_named(body)
        except ConfigError as error:
            log.warning("project %s: %s", body.project, error)
            version = self.predictor.model_version(body.project)
            results, late = [prediction_json(version, ()) for _ in body.tasks], []
        if late:
            self.services.jobs.enqueue(JobKind.PUSH, body.project, f"{len(late)} tasks were late")
        suggested = sum(1 for result in results if result["result"])
        self.metrics.tasks.labels("suggested").inc(suggested)
        self.metrics.tasks.labels("empty").inc(len(results) - suggested)
        return jsonify(results=results)

    def webhook(self) -> ResponseReturnValue:
        self.services.credentials.check_webhook(
            request.headers.get("Authorization"), request.headers.get(SECRET_HEADER)
        )
        hook = parse_webhook(_json())
        if hook.ignored:
            log.warning("project %s: of %s not all is remembered: %s", hook.project, hook.action, hook.ignored)
            self.metrics.events.labels("ignored").inc()
        new = self.services.journal.record(hook.events)
        self.metrics.events.labels("new").inc(new)
        self.metrics.events.labels("known").inc(len(hook.events) - new)
        if hook.label_config:
            self._remember_config(hook.project, hook.label_config)
        if hook.wants_training:
            return self._ask_training(hook.project), 201
        return jsonify(status="ok", new=new, ignored=hook.ignored), 201

    def train(self) -> ResponseReturnValue:
        self._check_call()
        body = _json()
        if not isinstance(body, dict) or body.get("project") is None:
            raise BadRequestError('Name the project to train: {"project": 4}.')
        return self._ask_training(project_id(body["project"])), 201

    def versions(self) -> ResponseReturnValue:
        self._check_call()
        asked = request.args.get("project")
        projects = [project_id(asked)] if asked else [record.project for record in self.services.projects]
        names = {
            model_version_name(model.version): None
            for project in projects
            for model in self.services.registry.versions(registry_name(project))
        }
        return jsonify(versions=list(names))

    def ready(self) -> ResponseReturnValue:
        try:
            pending = self.services.journal.pending()
            self.services.registry.champion("backbone")
        except StorageError as error:
            return jsonify(status="not ready", reason=str(error)), 503
        age = heartbeat.age(self.settings.home)
        worker = "alive" if age is not None and age < heartbeat.FRESH_S else "not seen"
        return jsonify(status="ready", worker=worker, journal_pending=pending)

    def metrics_text(self) -> ResponseReturnValue:
        self._check_call()
        self.metrics.pending.set(self.services.journal.pending())
        self.metrics.waiting.set(len(self.services.jobs.waiting()))
        age = heartbeat.age(self.settings.home)
        self.metrics.worker_age.set(float("nan") if age is None else age)
        return Response(self.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def count(self, response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        self.metrics.requests.labels(route, str(response.status_code)).inc()
        self.metrics.seconds.labels(route).observe(time.perf_counter() - g.started)
        return response

    def _check_call(self) -> None:
        self.services.credentials.check_call(request.headers.get("Authorization"))

    def _ask_training(self, project: str) -> Response:
        return jsonify(status="ok", job=enqueue_training(self.services, project).id)

    def _remember_config(self, project: str, xml: str) -> None:
        if self._configs.get(project) != hash(xml):  # the record is a file: write it only when the config has changed
            self.services.projects.update(project, label_config=xml)
            self._configs[project] = hash(xml)

    def _remember_setup(self, body: SetupRequest) -> None:
        record = self.services.projects.get(body.project)
        if record.created and body.created and record.created != body.created:
            log.warning(
                "project %s is not the one known under that number (made %s, now %s): another Label Studio database? "
                "Run `taxonomist doctor`.",
                body.project,
                record.created,
                body.created,
            )
        changes: dict[str, Any] = {"label_config": body.label_config, "created": record.created or body.created}
        unknown = record.label_studio_url is None and self.settings.label_studio_url is None
        if unknown and body.hostname and body.access_token and self._trusts(body.hostname):
            changes |= {"label_studio_url": body.hostname.rstrip("/"), "api_key": body.access_token}
        self.services.projects.update(body.project, **changes)

    def _trusts(self, hostname: str) -> bool:
        """Whether an address that /setup brings may be called: an authenticated caller's, or one on this machine."""
        if self.settings.password is not None:
            return True
        return request.remote_addr in LOOPBACK_HOSTS and urlsplit(hostname).hostname in LOOPBACK_HOSTS


def _json() -> object:
    body: object = request.get_json(force=True, silent=True)
    if body is None:
        raise BadRequestError("The body is not JSON.")
    return body


def _start_clock() -> None:
    g.started = time.perf_counter()


def _explain(error: TaxonomistError) -> ResponseReturnValue:
    status = http_status(error)
    log.log(logging.ERROR if status >= 500 else logging.WARNING, "%s %s: %s", request.method, request.path, error)
    response = jsonify(error=str(error))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="taxonomist"'
    return response, status


def _unexpected(error: Exception) -> ResponseReturnValue:
    if isinstance(error, HTTPException):
        return jsonify(error=error.description), error.code or 500
    log.exception("%s %s", request.method, request.path)
    return jsonify(error="Internal error; the server's log has the reason."), 500
