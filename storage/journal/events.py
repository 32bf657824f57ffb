"""The events of a Label Studio project that the journal records."""

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
    """An annotation was created or changed. Times are Label Studio's and have a zone; `data` is its JSON, unchanged."""

    project: str
    annotation_id: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class AnnotationDeleted:
    """An annotation was deleted. Label Studio sends no time; with `at=None` the journal uses `Journal.clock`."""

    project: str
    annotation_id: str
    at: datetime | None = None


@dataclass(frozen=True)
class TaskSaved:
    """A task exists. Set `updated_at` if it is known, so that an older form never overwrites a newer one."""

    project: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskDeleted:
    """A task and all its annotations were deleted. With `at=None` the journal uses `Journal.clock`."""

    project: str
    task_id: str
    at: datetime | None = None


Event = AnnotationSaved | AnnotationDeleted | TaskSaved | TaskDeleted
