"""The adapter for label-studio-ml, Label Studio's own framework, in its two generations.

    pip install 'git+https://github.com/HumanSignal/label-studio-ml-backend.git@d02cedf'   # 2.x, which is not on PyPI
    # or 1.x without its pins (Flask 1.1.2 and more), which cannot be installed today:
    pip install appdirs attrs colorama label-studio-tools lxml redis requests rq
    pip install --no-deps label-studio-ml==1.0.9

    python -m taxonomist.backend.web.label_studio_ml --port 9090   # both generations
    gunicorn --threads 8 'taxonomist.backend.web.label_studio_ml:make_app()'

    label-studio-ml init my-model --script model.py:TaxonomistModel && label-studio-ml start my-model   # the 1.x way

`model.py` has the one line `from taxonomist.backend.web.label_studio_ml import TaxonomistModel` (a copy of this
file, which `init` would make, hides the framework behind its name).
A 2.x `_wsgi.py` passes `TaxonomistModel` to `init_app`.

State and settings are those of `taxonomist serve`, and a `taxonomist worker` on the same home folder does the
training. The framework keeps files of its own in `MODEL_DIR` (2.x by default in the current folder).
`TAXONOMIST_LABEL_STUDIO_URL` and `TAXONOMIST_LABEL_STUDIO_API_KEY` must be set, since images and missed annotations are
fetched with them. Compared with `taxonomist serve`, this is missing:

- In both generations: look-alikes, `/livez`, `/readyz`, metrics, and the list of versions in Label Studio.
- When the framework's own command starts the server: our password does not protect it. 1.x has no password at all; 2.x
  also requires its password of webhooks, to which Label Studio gives none unless the webhook's headers are changed.
- With `label-studio-ml start` of 1.x: each webhook is a job in a process of its own, so one may be lost after its
  answer, and the model version in Label Studio is `INITIAL` before the first job. `make_app` has neither problem.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from flask import Flask, Response, has_request_context, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.serving import run_simple

from taxonomist.backend.error_codes import exit_code, http_status
from taxonomist.backend.label_studio.requests import PredictRequest, parse_predict, project_id
from taxonomist.backend.label_studio.webhooks import parse_webhook
from taxonomist.backend.logs import set_up_logging
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings, load_settings
from taxonomist.backend.state.credentials import check_exposure
from taxonomist.backend.web.callers.access import Access
from taxonomist.backend.web.callers.caller import Proxies
from taxonomist.backend.web.path_prefix import BelowPath
from taxonomist.backend.web.use_cases import UseCases
from taxonomist.storage.home.privacy import make_private
from taxonomist.taxonomy.errors import AuthError, TaxonomistError

try:
    from label_studio_ml import api
    from label_studio_ml.model import LabelStudioMLBase
except ModuleNotFoundError as error:
    message = (
        f"This module needs the framework label-studio-ml, and {error.name} is not installed: pip install "
        "'git+https://github.com/HumanSignal/label-studio-ml-backend.git@d02cedf'. `taxonomist serve` needs none of it."
    )
    if __name__ == "__main__":
        sys.exit(message)
    raise ModuleNotFoundError(message, name=error.name) from error

log = logging.getLogger(__name__)

EVENTS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_UPDATED",
    "ANNOTATION_DELETED",
    "ANNOTATIONS_DELETED",
    "TASK_CREATED",
    "TASKS_CREATED",
    "TASK_DELETED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
    "START_TRAINING",
)
SECOND_GENERATION = hasattr(LabelStudioMLBase, "set")
if SECOND_GENERATION:
    api.TRAIN_EVENTS = EVENTS  # its /webhook route reads this, that of 1.x the class attribute


@cache
def _use_cases_of(_process_id: int) -> UseCases:
    return UseCases(Services(load_settings()))


def _use_cases() -> UseCases:
    """Return the use cases of this process. A fork makes its own: SQLite and onnxruntime do not survive one."""
    return _use_cases_of(os.getpid())


class TaxonomistModel(LabelStudioMLBase):  # type: ignore[misc]
    """The use cases behind the framework's interface. The framework makes one per request: it keeps no state."""

    TRAIN_EVENTS = EVENTS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # 1.x: label_config, train_output, hostname, access_token, model_version; 2.x: project_id, label_config.
        super().__init__(*args, **kwargs)
        if not SECOND_GENERATION and "job_id" in self.train_output:
            # 1.x takes the id of its newest job, in this dict, as the version. But each webhook is a job, hence a new
            # version; and an id is a number, with which Label Studio's stream fails.
            project = _body().get("project")
            if isinstance(project, str):
                self.train_output["job_id"] = _use_cases().model_version(project_id(project))

    def setup(self) -> None:
        """Set the version that 2.x sends to Label Studio; 2.x calls this at the end of each `__init__`."""
        if self.project_id:
            version = _use_cases().model_version(project_id(self.project_id))
            if self.get("model_version") != version:
                self.set("model_version", version)

    def set_extra_params(self, extra_params: object) -> None:
        """Ignore them. 2.x fails with parameters that are not text, and such a project could not be connected."""

    def predict(self, tasks: Sequence[Mapping[str, Any]], *_args: Any, **_kwargs: Any) -> list[dict[str, Any]]:
        """Return one prediction for each task, in order; an empty one where nothing can be suggested.

        A list works in both generations. Raises `BadRequestError` when the tasks cannot be parsed.
        """
        if not tasks:
            return []
        predictions = _use_cases().answer(self._request(tasks)).predictions
        if not SECOND_GENERATION:
            # Label Studio repeats its requests without end when a prediction's version is not that of /setup, which in
            # 1.x may be INITIAL. A prediction without a version gets that of /setup.
            for prediction in predictions:
                del prediction["model_version"]
        return predictions

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Record an event of Label Studio in the journal; *Start training* enqueues a training.

        1.x calls `fit(tasks, event=…, data=…, workdir=…, job_id=…)`, 2.x `fit(event, data)`. Return a dict in any case:
        1.x stores it as the job's result, and logs an error at each request when a job has none. Raises
        `BadRequestError` for a body that is not a webhook, `StorageError` when the event cannot be recorded.
        """
        named = args if args and isinstance(args[0], str) else (kwargs.get("event"), kwargs.get("data"))
        event, data = named[0], named[1] if len(named) > 1 else kwargs.get("data")
        if event is None:
            log.warning("fit() was called without an event; nothing is trained. Use Start training in Label Studio")
            return {"status": "ignored", "reason": "no event"}
        cases = _use_cases()
        receipt = cases.receive(parse_webhook({**(data or {}), "action": event}, known_config=cases.known_config))
        if receipt.training:
            return receipt.training.to_json()
        return {"status": "ok", "new": receipt.new}

    def _request(self, tasks: Sequence[Mapping[str, Any]]) -> PredictRequest:
        # 1.x gives a model neither its project nor, when two projects share a server, its config; the request has both.
        sent = _body()
        project = getattr(self, "project_id", None) or sent.get("project") or tasks[0].get("project")
        config = sent.get("label_config") or self.label_config
        return parse_predict({"tasks": list(tasks), "project": project, "label_config": config})


def _body() -> Mapping[str, Any]:
    """Return the body of the request that is being answered; empty outside of one."""
    body = request.get_json(silent=True) if has_request_context() else None
    return body if isinstance(body, dict) else {}


def make_app(settings: Settings | None = None) -> Flask:
    """Return the framework's application with our model, protected by our password and webhook secret.

    Requests use the settings of environment and file. Raises `ConfigError` when a setting is wrong.
    """
    settings = settings or load_settings()
    make_private(settings.home)
    if SECOND_GENERATION:
        app: Flask = api.init_app(TaxonomistModel)
    else:
        api._manager = _first_generation_manager()
        model_dir = os.environ.get("MODEL_DIR") or settings.home / "label-studio-ml"
        app = api.init_app(TaxonomistModel, model_dir=str(model_dir))
    app.wsgi_app = BelowPath(app.wsgi_app, settings)  # type: ignore[method-assign]
    app.before_request(_guard)
    app.after_request(_without_sniffing)
    app.register_error_handler(TaxonomistError, _explain)
    return app


def _first_generation_manager() -> Any:
    """Return 1.x's manager with two changes that a model alone cannot make."""
    from label_studio_ml.model import LabelStudioMLManager, ModelWrapper  # noqa: PLC0415 - 2.x has neither

    class Manager(LabelStudioMLManager):  # type: ignore[misc]
        @classmethod
        def fetch(cls, project: Any = None, *args: Any, **kwargs: Any) -> Any:
            """Return the model with its own version, also without a job: `webhook` below starts none."""
            loaded = super().fetch(project, *args, **kwargs)
            if project is None:
                return loaded
            return ModelWrapper(loaded.model, _use_cases().model_version(project_id(project)))

        @classmethod
        def webhook(cls, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
            """Record the webhook before it is answered, instead of in a new process."""
            answer: dict[str, Any] = cls.model_class().fit(event=event, data=data)
            return answer

    return Manager()


def _guard() -> None:
    if request.path in {"/", "/health"}:
        return
    services = _use_cases().services
    access, caller = Access(services), Proxies(services.settings).caller_in(request.environ)
    is_webhook = request.path == "/webhook"
    access.check(caller, webhook=is_webhook)
    for project in {project_id(value) for value in _named_projects(_body())}:
        access.check_project(caller, project, webhook=is_webhook)


def _named_projects(body: Mapping[str, Any]) -> Iterator[object]:
    """Yield the projects in all places of a body from which one may be read."""
    project, tasks = body.get("project"), body.get("tasks")
    named = [project.get("id") if isinstance(project, dict) else project]
    named += [task.get("project") for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
    yield from (value for value in named if value is not None)


def _without_sniffing(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _explain(error: TaxonomistError) -> ResponseReturnValue:
    log.warning("%s %s: %s", request.method, request.path, error)
    asks = {"WWW-Authenticate": 'Basic realm="taxonomist"'} if isinstance(error, AuthError) else {}
    return jsonify(error=str(error)), http_status(error), asks


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the process is stopped; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m taxonomist.backend.web.label_studio_ml",
        description="Serve the model through label-studio-ml, 1.x or 2.x.",
    )
    parser.add_argument("--host", help="address to listen on (TAXONOMIST_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (TAXONOMIST_PORT)")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(host=options.host, port=options.port)
        check_exposure(settings)
        set_up_logging(settings.log_level)
        for name in ("label_studio_ml", "werkzeug"):  # the framework logs whole bodies, werkzeug each request
            logging.getLogger(name).setLevel(logging.WARNING)
        app = make_app(settings)
        log.info("label-studio-ml %s.x serves %s at %s", "2" if SECOND_GENERATION else "1", settings.home, settings.url)
        run_simple(settings.host, settings.port, app, threaded=True)
    except TaxonomistError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line
        return exit_code(error)
    return 0


if __name__ == "__main__":
    # Import it by its own name, since 1.x passes the class to other processes by name.
    from taxonomist.backend.web.label_studio_ml import main as serve

    sys.exit(serve())
