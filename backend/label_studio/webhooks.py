"""The bodies of Label Studio's webhooks, as events of the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from taxonomist.backend.label_studio.requests import Id, Task, Time, project_id, validated
from taxonomist.storage.journal import (
    UNKNOWN_SOURCE,
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.taxonomy.errors import BadRequestError, ConfigError, ConfigTooLargeError
from taxonomist.taxonomy.label_config import LabelConfig, parse_label_config
from taxonomist.taxonomy.names import shorten

SomeEvent = TypeVar("SomeEvent", bound=Event)
_WITHOUT_EVENTS = frozenset(  # Label Studio's other actions: they have no annotation and no task
    [
        "START_TRAINING",
        *(f"{kind}_{what}" for kind in ("PROJECT", "LABEL_LINK") for what in ("CREATED", "UPDATED", "DELETED")),
    ]
)


@dataclass(frozen=True)
class ReceivedWebhook:
    """One webhook: its events for the journal, and whether it asks for a training.

    `created` is the time stamp of the project's creation, as in `SetupRequest`, and `label_config` the project's, where
    the webhook has them. `ignored` is the reason why a part of it, or all of it, is not recorded.
    """

    action: str
    project: str
    created: str | None
    events: tuple[Event, ...]
    label_config: str | None
    wants_training: bool
    ignored: str | None = None


def parse_webhook(
    body: object, *, now: datetime | None = None, known_config: Callable[[str], str | None] = lambda project: None
) -> ReceivedWebhook:
    """Return the webhook of any of Label Studio's actions, singular or plural.

    An unknown action has no events and is `ignored` by its name. `now` is the time of a task that has none.
    `known_config` returns the labelling config of a project, for a webhook that has only the project's number. Raises
    `BadRequestError` for a body that is not a webhook, and `ConfigTooLargeError` for one whose labelling config exceeds
    the limits.
    """
    if not isinstance(body, dict) or not isinstance(body.get("action"), str):
        raise BadRequestError("A webhook needs an action.")
    project = body.get("project")
    identity = project.get("id") if isinstance(project, dict) else project
    if identity is None:
        raise BadRequestError(f"The webhook {shorten(body['action'])} names no project.")
    xml = project.get("label_config") if isinstance(project, dict) else None
    if xml is not None and not isinstance(xml, str):
        raise BadRequestError(
            f"The labelling config of project {shorten(repr(identity))} is not a text: {shorten(repr(xml))}."
        )
    created = _created(project)
    number = project_id(identity)
    source = f"{number}.{created}" if created else UNKNOWN_SOURCE
    return _WebhookReader(body, number, created, source, xml or None, now or datetime.now(UTC), known_config).read()


class _ProjectTimes(BaseModel):
    created_at: Time | None = None


def _created(project: object) -> str | None:
    """Return the time stamp of the project's creation in whole seconds, as Label Studio has it in /setup."""
    time = project.get("created_at") if isinstance(project, dict) else None
    return _known_time_stamp(time) if isinstance(time, str) and len(time) < 100 else _time_stamp(time)


def _time_stamp(time: object) -> str | None:
    try:
        created = _ProjectTimes.model_validate({"created_at": time}).created_at
    except ValidationError:
        return None
    return str(int(created.timestamp())) if created else None


_known_time_stamp = lru_cache(maxsize=1024)(_time_stamp)  # each webhook has that of its project


class _SavedAnnotation(BaseModel):
    id: Id
    task: Id
    created_at: Time
    updated_at: Time


class _Deleted(BaseModel):
    id: Id


def annotation_saved(
    project: str, source: str, annotation: Mapping[str, Any], uri: str, read_after: int | None = None
) -> AnnotationSaved:
    """Return the journal's event for an annotation of a webhook, the API or an export. Raises `BadRequestError`."""
    saved = validated(_SavedAnnotation, annotation)
    return AnnotationSaved(
        project=project,
        source=source,
        annotation_id=str(saved.id),
        task_id=str(saved.task),
        uri=uri,
        created_at=saved.created_at,
        updated_at=saved.updated_at,
        data=dict(annotation),
        read_after=read_after,
    )


def task_saved(
    project: str, source: str, task: Task, config: LabelConfig, now: datetime, read_after: int | None = None
) -> TaskSaved:
    """Return the journal's event for a task of a webhook, the API or an export; `now` is the time of one without.

    Raises `BadRequestError` for a task without an image.
    """
    images = task.images(config)
    created = task.created_at or now
    return TaskSaved(
        project=project,
        source=source,
        task_id=str(task.id),
        uri=next(iter(images.values())),
        created_at=created,
        updated_at=task.updated_at or created,
        data=task.data,
        images={} if images.keys() == {config.first_image} else images,
        read_after=read_after,
    )


class _WebhookReader:
    def __init__(
        self,
        body: Mapping[str, Any],
        project: str,
        created: str | None,
        source: str,
        xml: str | None,
        now: datetime,
        known_config: Callable[[str], str | None],
    ) -> None:
        self.body, self.project, self.created, self.source = body, project, created, source
        self.xml, self.now, self.known_config = xml, now, known_config
        self.action = str(body["action"])
        self.problems: list[str] = []
        self._config: LabelConfig | None = None

    def read(self) -> ReceivedWebhook:
        events: tuple[Event, ...] = ()
        try:
            if self.xml:
                self._config = parse_label_config(self.xml)
        except ConfigTooLargeError:  # also where no event needs it
            raise
        except ConfigError:  # an event that needs it says so
            pass
        try:
            events = tuple(self._events())
        except ConfigTooLargeError:
            raise
        except ConfigError as error:
            self.problems.append(str(error))
        return ReceivedWebhook(
            action=self.action,
            project=self.project,
            created=self.created,
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
                    yield from self._if_usable(self._annotation_deleted, item)
            case "TASK_CREATED" | "TASKS_CREATED":
                for item in self._items("task", "tasks"):
                    yield from self._if_usable(self._task, item)
            case "TASK_DELETED" | "TASKS_DELETED":
                for item in self._items("task", "tasks"):
                    yield from self._if_usable(self._task_deleted, item)
            case action if action not in _WITHOUT_EVENTS:
                self.problems.append(f"The action {shorten(repr(action))} is not known; nothing of it is recorded.")

    def _saved(self) -> Iterator[Event]:
        tasks: dict[str, TaskSaved] = {}
        for item in self._items("task", "tasks"):
            for event in self._if_usable(self._task, item):
                tasks[event.task_id] = event
                yield event
        for item in self._items("annotation", "annotations"):
            yield from self._if_usable(partial(self._annotation, tasks), item)

    def _annotation(self, tasks: Mapping[str, TaskSaved], item: Mapping[str, Any]) -> AnnotationSaved:
        task_id = str(item.get("task") or "")
        if task_id not in tasks:
            raise BadRequestError(
                f"Annotation {shorten(item.get('id'))} belongs to task {shorten(task_id)}, which was not sent."
            )
        return annotation_saved(self.project, self.source, item, tasks[task_id].uri)

    def _if_usable(
        self, make: Callable[[Mapping[str, Any]], SomeEvent], item: Mapping[str, Any]
    ) -> Iterator[SomeEvent]:
        """The event of an item, or nothing when the item is not usable: the other items are still recorded."""
        try:
            yield make(item)
        except BadRequestError as error:
            self.problems.append(str(error))

    def _annotation_deleted(self, item: Mapping[str, Any]) -> AnnotationDeleted:
        return AnnotationDeleted(self.project, self.source, _identity(item))  # without a time: now

    def _task_deleted(self, item: Mapping[str, Any]) -> TaskDeleted:
        return TaskDeleted(self.project, self.source, _identity(item))

    def _task(self, item: Mapping[str, Any]) -> TaskSaved:
        return task_saved(self.project, self.source, validated(Task, item), self._read_config(), self.now)

    def _read_config(self) -> LabelConfig:
        if self._config is not None:
            return self._config
        xml = self.xml or self.known_config(self.project)
        if not xml:
            raise BadRequestError(f"The webhook {self.action} came without the project's labelling config.")
        return parse_label_config(xml)

    def _items(self, *names: str) -> Iterator[Mapping[str, Any]]:
        for name in names:
            value = self.body.get(name)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    yield item


def _identity(item: Mapping[str, Any]) -> str:
    if item.get("id") is None:
        raise BadRequestError("A deleted item came without its id.")
    return str(validated(_Deleted, item).id)
