"""The webhook journal: what Label Studio told us, on the disk before it is answered, folded into state later."""

from storage.journal.events import (
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)
from storage.journal.journal import Journal
from storage.journal.state import AnnotationRecord, Dirty, Folded, TaskRecord

__all__ = [
    "AnnotationDeleted",
    "AnnotationRecord",
    "AnnotationSaved",
    "Dirty",
    "Event",
    "Folded",
    "Journal",
    "TaskDeleted",
    "TaskRecord",
    "TaskSaved",
]
