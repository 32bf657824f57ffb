"""Between an image document and what Cosmos DB stores of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.errors import DamagedError

__all__ = ["OURS", "body", "derived", "parse", "was_written_by"]

OURS = "taxonomist"
"""The field with what is derived from the others for queries. Callers of the catalogue never see it."""
_SYSTEM = frozenset({"_rid", "_self", "_etag", "_attachments", "_ts"})
_MARKS = 8


def parse(stored: Mapping[str, Any]) -> ImageDocument:
    """The document. Raises `DamagedError` that names the first field that is not as it should be."""
    try:
        return ImageDocument.model_validate({name: value for name, value in stored.items() if name != OURS})
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(
            f"The document {stored.get('id')} in Cosmos DB cannot be read:"
            f" {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error


def body(wanted: ImageDocument, mark: str, stored: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """What to store. `mark` names this write, so that it is known again when its answer was lost.

    `stored` is what `wanted` was made from, empty for a new document. Only what was changed in it is changed, unless
    `whole`: a field of somebody else stays as it was written, and none is added.
    """
    # Validated again because `model_copy(update=...)` takes anything.
    document = ImageDocument.model_validate(wanted.to_json())
    new = _content(document.to_json())
    if stored and not whole:
        old = parse(stored).to_json()
        kept = {name: value for name, value in _content(stored).items() if name in new}
        new = kept | {name: value for name, value in new.items() if name not in old or old[name] != value}
    return new | {OURS: derived(document) | {"writes": [*_marks(stored), mark][-_MARKS:]}}


def derived(document: ImageDocument) -> dict[str, Any]:
    """What is asked for in queries: the projects that the image is in, and those that have labels for it."""
    projects = document.projects
    return {"projects": sorted(projects), "labelled": sorted(name for name in projects if projects[name].labelled)}


def was_written_by(mark: str, stored: Mapping[str, Any]) -> bool:
    """Whether the write with that mark has come into the stored document, perhaps followed by a few others."""
    return mark in _marks(stored)


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _SYSTEM and name != OURS}


def _marks(stored: Mapping[str, Any]) -> list[str]:
    ours = stored.get(OURS)
    marks = ours.get("writes") if isinstance(ours, dict) else None
    return [mark for mark in marks if isinstance(mark, str)] if isinstance(marks, list) else []
