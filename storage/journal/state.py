"""The records that the journal returns."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taxonomist.storage.journal.codec import parse_time
from taxonomist.storage.journal.events import is_label_studio

__all__ = ["AnnotationRecord", "Dirty", "Folded", "TaskRecord", "annotation_record", "task_record"]


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

    @property
    def is_manifest_row(self) -> bool:
        """Whether an imported manifest made the task: its id is then the address of its image."""
        return self.task_id == self.uri and not is_label_studio(self.source)


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

    @property
    def last(self) -> str:
        """The last id: the argument `after` of `Journal.dirty` for the next images. Empty when there are none."""
        return max(self.images | self.removed, default="")


def annotation_record(row: sqlite3.Row) -> AnnotationRecord:
    """Return the annotation in a row of `live_annotations` or `image_annotations`."""
    task_data = row["task_data"] if "task_data" in row.keys() else None  # noqa: SIM118 - a row iterates over values
    return AnnotationRecord(
        project=row["project"],
        source=row["source"],
        annotation_id=row["annotation_id"],
        task_id=row["task_id"],
        image_id=row["image_id"],
        uri=row["uri"],
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
        data=json.loads(row["data"]),
        task_data=json.loads(task_data) if task_data else None,
    )


def task_record(row: sqlite3.Row) -> TaskRecord:
    """Return the task in a row of `live_tasks` or `image_tasks`."""
    return TaskRecord(
        project=row["project"],
        source=row["source"],
        task_id=row["task_id"],
        image_id=row["image_id"],
        uri=row["uri"],
        created_at=parse_time(row["created_at"]),
        updated_at=parse_time(row["updated_at"]),
        data=json.loads(row["data"]),
        images=json.loads(row["images"]),
    )
