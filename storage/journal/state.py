"""What the journal gives out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["AnnotationRecord", "Dirty", "Folded", "TaskRecord"]


@dataclass(frozen=True)
class AnnotationRecord:
    """A live annotation in its newest form. Times are UTC."""

    project: str
    annotation_id: str
    task_id: str
    image_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class TaskRecord:
    """A live task in its newest form. Times are UTC."""

    project: str
    task_id: str
    image_id: str
    uri: str
    created_at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Folded:
    """What one fold brought: (project, image id) pairs whose annotations or tasks changed, those that have none left,
    the number of events, and the position reached."""

    images: frozenset[tuple[str, str]]
    removed: frozenset[tuple[str, str]]
    events: int
    position: int


@dataclass(frozen=True)
class Dirty:
    """Image ids of one project that changed and are not `done` yet: those still there and those that have neither a
    task nor an annotation left. `position` belongs into `Journal.done`."""

    images: frozenset[str]
    removed: frozenset[str]
    position: int
