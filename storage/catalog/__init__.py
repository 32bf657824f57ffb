"""Image documents: one JSON document per image, in SQLite on one machine or in Azure Cosmos DB for several."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from taxonomist.storage.catalog.documents import AnnotatorLabels, ImageDocument, ProjectLabels
from taxonomist.storage.catalog.facets import Facet
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.catalog.label_query import Found, LabelQuery
from taxonomist.storage.catalog.sqlite import SqliteCatalog
from taxonomist.taxonomy.paths import TaxonomyPath

__all__ = [
    "AnnotatorLabels",
    "Catalog",
    "Change",
    "Facet",
    "Found",
    "ImageDocument",
    "LabelQuery",
    "ProjectLabels",
    "SqliteCatalog",
    "image_id",
]

Change = Callable[[ImageDocument], ImageDocument | None]
"""Maps the stored document (or an empty one with only its id) to the new one; `None` leaves it unchanged. It may be
called several times for one update, so it must be a pure function."""


class Catalog(Protocol):
    """A store of image documents. Threads and processes may share it.

    Every method raises `StorageError` when the store cannot be read or written, and `DamagedError` when its content is
    not a catalogue any more.
    """

    def get(self, id: str) -> ImageDocument | None:
        """Return the document, or `None` when there is none."""
        ...

    def get_many(self, ids: Iterable[str]) -> dict[str, ImageDocument]:
        """Return the documents that exist, by id."""
        ...

    def put(self, document: ImageDocument, *, if_match: str | None = None) -> ImageDocument:
        """Store the whole document and return it with its new etag.

        With `if_match`, it replaces only the version with that etag; otherwise raises `ConflictError`.
        """
        ...

    def update(self, id: str, change: Change) -> ImageDocument:
        """Read, change and write one document, and return the stored document.

        After a conflict with another writer it is read and changed again. A missing document is created.
        """
        ...

    def update_many(self, changes: Mapping[str, Change]) -> int:
        """Update many documents and return how many were written. SQLite writes all of them or none."""
        ...

    def documents(self, project: str | None = None, *, labelled: bool | None = None) -> Iterator[ImageDocument]:
        """Return the documents of one project, or of all, in the order of their ids; one that is damaged is skipped.

        `labelled`: only documents with (`True`) or without (`False`) accepted labels in the project, or both (`None`).
        Without a project, labels in any project count.
        """
        ...

    def count(self, project: str | None = None, *, labelled: bool | None = None) -> int:
        """Return the number of documents that `documents` would return."""
        ...

    def count_reasons(self, project: str) -> dict[str | None, int]:
        """Return the number of the project's images without an accepted label by the stored reason, None for none."""
        ...

    def count_nodes(self, project: str) -> dict[tuple[str, TaxonomyPath], int]:
        """Return the number of the project's images with an accepted label through a node, by control and path."""
        ...

    def count_states(self, project: str) -> dict[str, int]:
        """Return the number of the project's images by state: `labelled`, or the reason why there is no label."""
        ...

    def page(
        self, project: str, facets: Sequence[Facet] = (), *, after: str = "", limit: int = 60
    ) -> list[ImageDocument]:
        """Return the first documents of a project that have all these facets, in the order of their ids.

        `after` is the id of the last document of the page before. The time does not depend on the number of pages
        before. A document that is damaged is skipped.
        """
        ...

    def oldest(self, project: str, facet: Facet) -> datetime | None:
        """Return when the label of the first of the project's images with this facet was decided, None for none."""
        ...

    def find(self, query: LabelQuery) -> Iterator[Found]:
        """Return the documents for which `label_query.matches` holds, in the order of their ids.

        A document that is not a valid `ImageDocument` (a number in place of a text) is skipped, with a line in the log.
        """
        ...

    def leave_project(self, project: str, ids: Iterable[str]) -> None:
        """Remove the images from the project with their labels there; the documents stay."""
        ...

    def drop(self, ids: Iterable[str]) -> int:
        """Delete those of the documents that are `unused` and return how many."""
        ...

    def projects(self) -> list[str]:
        """Return the projects with at least one image, sorted."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
