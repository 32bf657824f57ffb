"""A stand-in for label-studio-ml 2.x, which exists only as a git repository and cannot be installed from PyPI.

It has of the framework what the adapter meets: a base class made anew for each request, which keeps strings by project;
an `api` module whose `/webhook` looks at its own constant; and no other class attribute or argument than those of 2.x.
The first generation needs no stand-in: tests/e2e runs the adapter under the real 1.0.9.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from flask import Flask, jsonify, request


def modules() -> dict[str, ModuleType]:
    """Return the modules `label_studio_ml`, `.model` and `.api`, with a state of their own."""
    framework, model, api = (ModuleType(f"label_studio_ml{part}") for part in ("", ".model", ".api"))
    framework.__path__ = []
    framework.model, framework.api = model, api  # type: ignore[attr-defined]
    model.LabelStudioMLBase = _base_class()  # type: ignore[attr-defined]
    _fill(api)
    return {module.__name__: module for module in (framework, model, api)}


def _base_class() -> type:
    kept: dict[tuple[str, str], str] = {}

    class LabelStudioMLBase:
        def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
            self.project_id = project_id or ""
            if label_config is not None:
                self.set("label_config", label_config)
            if not self.get("model_version"):
                self.set("model_version", "0.0.1")
            self.setup()

        def setup(self) -> None: ...

        def get(self, key: str) -> str | None:
            return kept.get((self.project_id, key))

        def set(self, key: str, value: str) -> None:
            if not isinstance(value, str):
                raise ValueError("Value must be a string")  # noqa: TRY004 - as the framework does
            kept[self.project_id, key] = value

        def set_extra_params(self, extra_params: str) -> None:
            self.set("extra_params", extra_params)

        @property
        def label_config(self) -> str | None:
            return self.get("label_config")

    return LabelStudioMLBase


def _fill(api: Any) -> None:
    app = Flask("label_studio_ml")
    api.TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")

    def init_app(model_class: type, basic_auth_user: str | None = None, basic_auth_pass: str | None = None) -> Flask:
        api.MODEL_CLASS = model_class
        return app

    api.init_app = init_app

    @app.get("/health")
    def health() -> Any:
        return jsonify(status="UP")

    @app.post("/setup")
    def setup() -> Any:
        body = request.json
        model = api.MODEL_CLASS(project_id=body["project"].split(".", 1)[0], label_config=body["schema"])
        if body.get("extra_params"):
            model.set_extra_params(body["extra_params"])
        return jsonify(model_version=model.get("model_version"))

    @app.post("/predict")
    def predict() -> Any:
        body = request.json
        params = body.get("params", {})
        context = params.pop("context", {})
        model = api.MODEL_CLASS(project_id=str(body["project"]).split(".", 1)[0], label_config=body["label_config"])
        return jsonify(results=model.predict(body["tasks"], context=context, **params))

    @app.post("/webhook")
    def webhook() -> Any:
        body = request.json
        event = body.pop("action")
        if event not in api.TRAIN_EVENTS:
            return jsonify(status="Unknown event"), 200
        model = api.MODEL_CLASS(str(body["project"]["id"]), label_config=body["project"]["label_config"])
        return jsonify(result=model.fit(event, body), status="ok"), 201
