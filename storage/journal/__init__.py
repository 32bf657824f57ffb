"""The webhook journal: events of Label Studio are on the disk before their webhook is answered, and folded later."""

from taxonomist.storage.journal.codec import finite
from taxonomist.storage.journal.counts import SourceCounts, Unknown, UnknownLabels
from taxonomist.storage.journal.events import (
    EARLIER_IMPORT,
    UNKNOWN_SOURCE,
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
    is_label_studio,
)
from taxonomist.storage.journal.journal import Journal
from taxonomist.storage.journal.state import AnnotationRecord, Dirty, Folded, TaskRecord

__all__ = [
    "EARLIER_IMPORT",
    "UNKNOWN_SOURCE",
    "AnnotationDeleted",
    "AnnotationRecord",
    "AnnotationSaved",
    "Dirty",
    "Event",
    "Folded",
    "Journal",
    "SourceCounts",
    "TaskDeleted",
    "TaskRecord",
    "TaskSaved",
    "Unknown",
    "UnknownLabels",
    "finite",
    "is_label_studio",
]
