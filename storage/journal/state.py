"""The records that the journal returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["AnnotationRecord", "Dirty", "Folded", "TaskRecord"]


@dataclass(frozen=True)
class AnnotationRecord:
    """A live annotation in its newest form. Times are UTC. Its ids count within `source`.

    `task_data` is the data of its task, where that has several images and the annotation belongs to this one of them.
    """

    project: str
    source: str
    annotation_id: str
    task_id: str
    image_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]
    task_data: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TaskRecord:
    """A live task in its newest form. Times are UTC. Its id counts within `source`.

    `images` has the addresses of a task with several images by the name of their `<Image>`.
    """

    project: str
    source: str
    task_id: str
    image_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Folded:
    """The result of a fold.

    `images` are the (project, image id) pairs whose annotations or tasks changed, `removed` those without any left,
    `events` the number of events, and `position` the last folded event.
    """

    images: frozenset[tuple[str, str]]
    removed: frozenset[tuple[str, str]]
    events: int
    position: int


@dataclass(frozen=True)
class Dirty:
    """The ids of changed images of one project that are not `done` yet.

    `images` still have a task or an annotation, `removed` have none left. `position` is the argument of `Journal.done`.
    """

    images: frozenset[str]
    removed: frozenset[str]
    position: int
