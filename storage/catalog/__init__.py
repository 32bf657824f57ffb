"""Image documents: one JSON document per image, in SQLite here and in Cosmos DB at scale."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from taxonomist.storage.catalog.documents import AnnotatorLabels, ImageDocument, ProjectLabels
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.catalog.label_query import Found, LabelQuery
from taxonomist.storage.catalog.sqlite import SqliteCatalog

__all__ = [
    "AnnotatorLabels",
    "Catalog",
    "Change",
    "Found",
    "ImageDocument",
    "LabelQuery",
    "ProjectLabels",
    "SqliteCatalog",
    "image_id",
]

Change = Callable[[ImageDocument], ImageDocument | None]
"""From the stored document (or an empty one with only its id) to the wanted one; `None` leaves it as it is. It may be
called several times for one update, so it must be a pure function."""


class Catalog(Protocol):
    """Where image documents are kept. Safe to share between threads and processes.

    Every method raises `StorageError` when the store cannot be read or written and `DamagedError` when what it holds
    is not a catalogue any more.
    """

    def get(self, id: str) -> ImageDocument | None:
        """The document, or `None` when there is none."""
        ...

    def get_many(self, ids: Iterable[str]) -> dict[str, ImageDocument]:
        """The documents that exist, by id."""
        ...

    def put(self, document: ImageDocument, *, if_match: str | None = None) -> ImageDocument:
        """Store the document whole and return it with its new etag. With `if_match`: only over the version with that
        etag, else `ConflictError`."""
        ...

    def update(self, id: str, change: Change) -> ImageDocument:
        """Read, change and write one document, again when somebody else was faster; a missing one is made. Returns the
        document as it is stored afterwards."""
        ...

    def update_many(self, changes: Mapping[str, Change]) -> int:
        """As `update`, for many documents; returns how many were written. Locally all of them or none."""
        ...

    def documents(self, project: str | None = None, *, labelled: bool | None = None) -> Iterator[ImageDocument]:
        """Documents in order of their ids: of one project or all, with (`True`) or without (`False`) accepted labels
        there, or both (`None`). Without a project `labelled` means labelled in any."""
        ...

    def count(self, project: str | None = None, *, labelled: bool | None = None) -> int:
        """How many documents `documents` would give."""
        ...

    def find(self, query: LabelQuery) -> Iterator[Found]:
        """Documents that the query wants, in order of their ids: those for which `query.matches` holds.
        One that is no `ImageDocument` (a number where a text should be) is left out with a line in the log."""
        ...

    def leave_project(self, project: str, id: str) -> None:
        """Take the image out of the project: its labels there are forgotten, the document stays."""
        ...

    def projects(self) -> list[str]:
        """Projects with at least one image, sorted."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
