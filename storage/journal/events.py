"""The events that the journal records: of a Label Studio project, or of an imported file.

Each event names its *source*: a Label Studio project, known by its number and its time of creation
(`4.1795531934`, as Label Studio names it in /setup and /predict), or an imported file. Ids of tasks and annotations
count within their source. The source `""` stands for the project's Label Studio while its time of creation is not
known; `Journal.adopt` gives these events their source later. `EARLIER_IMPORT` stands for a file that an earlier release
imported: the next import into the project gives it its name.

`read_after` is set on what was *read* from the source as it is now (a pass over Label Studio's API): the position of
the journal (`Journal.position`) when the reading began. It then wins over everything that was recorded up to that
position, whatever the times say, and over nothing that was recorded since. Without it, as for webhooks, the times
decide.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "EARLIER_IMPORT",
    "UNKNOWN_SOURCE",
    "AnnotationDeleted",
    "AnnotationSaved",
    "Event",
    "TaskDeleted",
    "TaskSaved",
    "is_label_studio",
]

UNKNOWN_SOURCE = ""
EARLIER_IMPORT = "import of an earlier release"
_LABEL_STUDIO = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class AnnotationSaved:
    """An annotation was created or changed. Times are Label Studio's and have a zone; `data` is its JSON, unchanged."""

    project: str
    source: str
    annotation_id: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any]
    read_after: int | None = None


@dataclass(frozen=True)
class AnnotationDeleted:
    """An annotation was deleted. Label Studio sends no time; with `at=None` the journal uses the current time."""

    project: str
    source: str
    annotation_id: str
    at: datetime | None = None
    read_after: int | None = None


@dataclass(frozen=True)
class TaskSaved:
    """A task exists. Set `updated_at` if it is known, so that an older form never overwrites a newer one.

    `images` has the addresses of a task with several images by the name of their `<Image>`, `uri` is the first of them;
    empty for a task with one image. The task's annotations belong to all of its images.
    """

    project: str
    source: str
    task_id: str
    uri: str
    created_at: datetime
    updated_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    read_after: int | None = None


@dataclass(frozen=True)
class TaskDeleted:
    """A task and the annotations that are still its own were deleted. With `at=None`: at the current time."""

    project: str
    source: str
    task_id: str
    at: datetime | None = None
    read_after: int | None = None


Event = AnnotationSaved | AnnotationDeleted | TaskSaved | TaskDeleted


def is_label_studio(source: str) -> bool:
    """Return whether a source is a Label Studio project (`4.1795531934`, or one that is not known yet)."""
    return source == UNKNOWN_SOURCE or bool(_LABEL_STUDIO.fullmatch(source))
