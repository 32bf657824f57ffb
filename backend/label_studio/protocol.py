"""Label Studio's side of the wire: what it sends becomes typed values, what we know becomes its JSON.

Nothing here does I/O. Bodies are parsed once, here; unknown keys are ignored, since Label Studio adds some with
every release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, SecretStr, ValidationError, field_validator

from taxonomist.backend.state.project_records import is_project
from taxonomist.storage.journal import (
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.taxonomy.errors import BadRequestError, ConfigError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.suggestion import Suggestion
from taxonomist.taxonomy.tree import Tree

Model = TypeVar("Model", bound=BaseModel)
SomeEvent = TypeVar("SomeEvent", bound=Event)
MODEL_PREFIX = "taxonomist-"


@lru_cache(maxsize=64)
def label_config(xml: str) -> LabelConfig:
    """`parse_label_config`, remembered: each request carries the whole config. Raises `ConfigError`."""
    return parse_label_config(xml)


class Task(BaseModel):
    """A task as Label Studio sends it to /predict and in webhooks."""

    id: int | str
    data: dict[str, Any] = {}
    created_at: AwareDatetime | None = None
    total_predictions: int = 0

    def image_uri(self, config: LabelConfig) -> str:
        """The address of the task's image. Raises `BadRequestError` when its data has none."""
        uri = self.data.get(config.image_key)
        if not isinstance(uri, str) or not uri.strip():
            raise BadRequestError(f"Task {self.id} has no image under '{config.image_key}' (seen: {uri!r:.80}).")
        return uri


class PredictRequest(BaseModel):
    """The body of /predict."""

    tasks: list[Task]
    label_config: str
    project: str

    @field_validator("project", mode="before")
    @classmethod
    def _id_only(cls, value: object) -> str:
        return project_id(value)


class SetupRequest(BaseModel):
    """The body of /setup. `created` is the time stamp that Label Studio puts behind the project's id."""

    project: str
    label_config: str = Field(alias="schema")
    hostname: str | None = None
    access_token: SecretStr | None = None
    created: str | None = None


def parse_setup(body: object) -> SetupRequest:
    """The body of /setup. Raises `BadRequestError`."""
    if isinstance(body, dict):
        identity = str(body.get("project", ""))
        body = {**body, "project": project_id(identity), "created": identity.partition(".")[2] or None}
    return _validated(SetupRequest, body)


def parse_predict(body: object) -> PredictRequest:
    """The body of /predict. Raises `BadRequestError`."""
    return _validated(PredictRequest, body)


def project_id(value: object) -> str:
    """Label Studio's project number from `4`, `"4"` or `"4.1795531934"` (number and time of creation)."""
    number = str(value).partition(".")[0]
    if not is_project(number):
        raise BadRequestError(f"No project number in {value!r:.80}.")
    return number


@dataclass(frozen=True)
class Webhook:
    """One webhook: what it asks to be remembered, and whether it asks for training."""

    action: str
    project: str
    events: tuple[Event, ...]
    label_config: str | None
    wants_training: bool
    ignored: str | None = None  # why it, or a part of it, is not remembered


def parse_webhook(body: object, *, now: datetime | None = None) -> Webhook:
    """Any of Label Studio's actions, singular or plural. An action that we do not know is ignored, with its reason.

    Raises `BadRequestError` for a body that is no webhook at all.
    """
    if not isinstance(body, dict) or not isinstance(body.get("action"), str):
        raise BadRequestError("A webhook needs an action.")
    project = body.get("project")
    identity = project.get("id") if isinstance(project, dict) else project
    if identity is None:
        raise BadRequestError(f"The webhook {body['action']} names no project.")
    xml = project.get("label_config") if isinstance(project, dict) else None
    reader = _WebhookReader(body, project_id(identity), xml or None, now or datetime.now(UTC))
    return reader.read()


class _WebhookReader:
    def __init__(self, body: Mapping[str, Any], project: str, xml: str | None, now: datetime) -> None:
        self.body, self.project, self.xml, self.now = body, project, xml, now
        self.action = str(body["action"])
        self.problems: list[str] = []

    def read(self) -> Webhook:
        events: tuple[Event, ...] = ()
        try:
            events = tuple(self._events())
        except ConfigError as error:
            self.problems.append(str(error))
        return Webhook(
            action=self.action,
            project=self.project,
            events=events,
            label_config=self.xml,
            wants_training=self.action == "START_TRAINING",
            ignored=" ".join(self.problems) or None,
        )

    def _events(self) -> Iterator[Event]:
        match self.action:
            case "ANNOTATION_CREATED" | "ANNOTATIONS_CREATED" | "ANNOTATION_UPDATED" | "ANNOTATIONS_UPDATED":
                yield from self._saved()
            case "ANNOTATION_DELETED" | "ANNOTATIONS_DELETED":
                for item in self._items("annotation", "annotations"):
                    yield from self._kept(self._annotation_deleted, item)
            case "TASK_CREATED" | "TASKS_CREATED":
                for item in self._items("task", "tasks"):
                    yield from self._kept(self._task, item)
            case "TASK_DELETED" | "TASKS_DELETED":
                for item in self._items("task", "tasks"):
                    yield from self._kept(self._task_deleted, item)

    def _saved(self) -> Iterator[Event]:
        tasks: dict[str, TaskSaved] = {}
        for item in self._items("task", "tasks"):
            for event in self._kept(self._task, item):
                tasks[event.task_id] = event
                yield event
        for item in self._items("annotation", "annotations"):
            yield from self._kept(partial(self._annotation, tasks), item)

    def _annotation(self, tasks: Mapping[str, TaskSaved], item: Mapping[str, Any]) -> AnnotationSaved:
        task_id = str(item.get("task") or "")
        if task_id not in tasks:
            raise BadRequestError(f"Annotation {item.get('id')} belongs to task {task_id}, which was not sent.")
        return annotation_saved(self.project, item, tasks[task_id].uri)

    def _kept(self, make: Callable[[Mapping[str, Any]], SomeEvent], item: Mapping[str, Any]) -> Iterator[SomeEvent]:
        """The event of an item, or nothing when it cannot be used: one of many must not cost the others."""
        try:
            yield make(item)
        except BadRequestError as error:
            self.problems.append(str(error))

    def _annotation_deleted(self, item: Mapping[str, Any]) -> AnnotationDeleted:
        return AnnotationDeleted(self.project, _identity(item))  # without a time: the journal's clock

    def _task_deleted(self, item: Mapping[str, Any]) -> TaskDeleted:
        return TaskDeleted(self.project, _identity(item))

    def _task(self, item: Mapping[str, Any]) -> TaskSaved:
        task = _validated(Task, item)
        return TaskSaved(self.project, str(task.id), task.image_uri(self._config()), task.created_at or self.now)

    def _config(self) -> LabelConfig:
        if self.xml is None:
            raise BadRequestError(f"The webhook {self.action} came without the project's labelling config.")
        return label_config(self.xml)

    def _items(self, *names: str) -> Iterator[Mapping[str, Any]]:
        for name in names:
            value = self.body.get(name)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    yield item


class _SavedAnnotation(BaseModel):
    id: int | str
    task: int | str
    created_at: AwareDatetime
    updated_at: AwareDatetime


def annotation_saved(project: str, annotation: Mapping[str, Any], uri: str) -> AnnotationSaved:
    """The journal's event for an annotation of a webhook, the API or an export. Raises `BadRequestError`."""
    known = _validated(_SavedAnnotation, annotation)
    return AnnotationSaved(
        project=project,
        annotation_id=str(known.id),
        task_id=str(known.task),
        uri=uri,
        created_at=known.created_at,
        updated_at=known.updated_at,
        data=dict(annotation),
    )


def result_json(tree: Tree, suggestion: Suggestion) -> dict[str, Any]:
    """One region of a prediction: a `taxonomy` result, or `choices` for a `<Choices>` control."""
    path = list(suggestion.path)
    value: dict[str, Any] = {"taxonomy": [path]} if tree.kind == "taxonomy" else {"choices": [path[-1]]}
    return {
        # The same suggestion gets the same id, so that a repeated request changes nothing in Label Studio.
        "id": hashlib.sha256("\x1f".join((tree.control, *path)).encode()).hexdigest()[:10],
        "from_name": tree.control,
        "to_name": tree.to_name,
        "type": tree.kind,
        "value": value,
        "score": _unit(suggestion.score),
    }


def prediction_json(model_version: str, parts: Sequence[tuple[Tree, Suggestion]]) -> dict[str, Any]:
    """The entry of one task in the answer of /predict; without parts, the empty suggestion."""
    return {
        "model_version": model_version,
        "score": _unit(min((suggestion.score for _, suggestion in parts), default=0.0)),
        "result": [result_json(tree, suggestion) for tree, suggestion in parts],
    }


def model_version_name(version: str) -> str:
    """The name under which Label Studio knows a version of the registry."""
    return f"{MODEL_PREFIX}{version}"


def _unit(score: float) -> float:
    return round(min(max(float(score), 0.0), 1.0), 4) if score == score else 0.0


def _identity(item: Mapping[str, Any]) -> str:
    if item.get("id") is None:
        raise BadRequestError("A deleted item came without its id.")
    return str(item["id"])


def _validated(model: type[Model], body: object) -> Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BadRequestError(f"{model.__name__}: {where or 'body'}: {first['msg']}.") from None
