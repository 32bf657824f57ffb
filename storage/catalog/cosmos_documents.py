"""Converts between image documents and the items of Cosmos DB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from taxonomist.storage.catalog.documents import ImageDocument
from taxonomist.taxonomy.errors import DamagedError

__all__ = ["OURS", "body", "derived", "parse", "was_written_by"]

OURS = "taxonomist"
"""The field with values derived for queries. Callers of the catalogue never see it."""
_SYSTEM = frozenset({"_rid", "_self", "_etag", "_attachments", "_ts"})
_MARKS = 8


def parse(stored: Mapping[str, Any]) -> ImageDocument:
    """Return the document of an item. Raises `DamagedError`, which names the first invalid field."""
    try:
        return ImageDocument.model_validate({name: value for name, value in stored.items() if name != OURS})
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(
            f"The document {stored.get('id')} in Cosmos DB cannot be read:"
            f" {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error


def body(wanted: ImageDocument, mark: str, stored: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Return the item to store. `mark` identifies this write, so that it is recognised when its response was lost.

    `stored` is the item that `wanted` was made from, empty for a new document. Only changed fields are written, so
    fields of other programs stay as they are and no field is added. With `whole` all fields are written.
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
    """Return the values for queries: the projects of the image, and those with accepted labels for it."""
    projects = document.projects
    return {"projects": sorted(projects), "labelled": sorted(name for name in projects if projects[name].labelled)}


def was_written_by(mark: str, stored: Mapping[str, Any]) -> bool:
    """Return whether the write with this mark is in the stored item, perhaps followed by up to seven others."""
    return mark in _marks(stored)


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _SYSTEM and name != OURS}


def _marks(stored: Mapping[str, Any]) -> list[str]:
    ours = stored.get(OURS)
    marks = ours.get("writes") if isinstance(ours, dict) else None
    return [mark for mark in marks if isinstance(mark, str)] if isinstance(marks, list) else []
