"""What can happen in a Label Studio project, as far as we care."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "AnnotationDeleted",
    "AnnotationSaved",
    "Event",
    "TaskDeleted",
    "TaskSaved",
]


@dataclass(frozen=True)
class AnnotationSaved:
    """An annotation was made or changed. Times are Label Studio's own, aware; `data` is its JSON as it came."""

    project: str
    annotation_id: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class AnnotationDeleted:
    """An annotation is gone. Label Studio sends no time; with `at=None` the journal takes `Journal.clock`."""

    project: str
    annotation_id: str
    at: datetime | None = None


@dataclass(frozen=True)
class TaskSaved:
    """A task exists. Give `updated_at` where it is known, so that an older form never overwrites a newer one."""

    project: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskDeleted:
    """A task and all its annotations are gone. With `at=None` the journal takes `Journal.clock`."""

    project: str
    task_id: str
    at: datetime | None = None


Event = AnnotationSaved | AnnotationDeleted | TaskSaved | TaskDeleted
