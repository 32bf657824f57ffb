"""Converts events to rows of the journal and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any

from pydantic_core import to_json

from taxonomist.storage.journal.events import (
    UNKNOWN_SOURCE,
    AnnotationDeleted,
    AnnotationSaved,
    Event,
    TaskDeleted,
    TaskSaved,
)
from taxonomist.taxonomy.errors import BadRequestError, DamagedError

__all__ = ["Row", "decode", "encode", "finite", "format_time", "parse_time"]

_KINDS: Mapping[str, type[Any]] = {
    "annotation-saved": AnnotationSaved,
    "annotation-deleted": AnnotationDeleted,
    "task-saved": TaskSaved,
    "task-deleted": TaskDeleted,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_BODY_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_TIMES = ("created_at", "updated_at", "at")


@dataclass(frozen=True)
class Row:
    """One event as it is stored. Equal events have equal keys."""

    key: str
    project: str
    kind: str
    body: str


def encode(event: Event) -> Row:
    """Return the row of an event.

    Raises `BadRequestError` for a time without a zone and a text that is not Unicode.
    """
    fields = {name: format_time(value) if isinstance(value, datetime) else value for name, value in vars(event).items()}
    identity: tuple[str, ...]
    match event:
        case AnnotationSaved():
            identity = (event.annotation_id, fields["created_at"], fields["updated_at"])
        case AnnotationDeleted():
            identity = (event.annotation_id, fields["at"])
        case TaskSaved():
            identity = (event.task_id, fields["created_at"], fields["updated_at"] or "", event.uri)
            identity += tuple(part for image in sorted(event.images.items()) for part in image)
        case TaskDeleted():
            identity = (event.task_id, fields["at"])
    if event.read_after is not None:
        identity += (str(event.read_after),)
    kind = _NAMES[type(event)]
    key = f"[{', '.join(map(encode_basestring, (kind, event.project, event.source, *identity)))}]"  # a list in JSON
    try:
        for value in fields.values():
            if isinstance(value, str):
                value.encode()
        key.encode()
        body = _json(fields)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"The event cannot be stored: {error}.") from error
    return Row(key=key, project=event.project, kind=kind, body=body)


def decode(kind: str, body: str) -> Event:
    """Return the event of a row, which may be that of an earlier release without sources.

    Raises `DamagedError` when the row was not written by `encode`.
    """
    try:
        fields = {"source": UNKNOWN_SOURCE, **json.loads(body)}
        event: Event = _KINDS[kind](
            **{
                name: parse_time(value) if name in _TIMES and value is not None else value
                for name, value in fields.items()
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"The journal holds an event that cannot be read ({kind}: {error}).") from error
    return event


def finite(value: Any) -> Any:
    """Return JSON without the numbers that JSON does not have: None in place of NaN and of what is infinite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: finite(part) for name, part in value.items()}
        case list() | tuple():
            return [finite(part) for part in value]
    return value


def _json(fields: Mapping[str, Any]) -> str:
    try:
        return to_json(fields, inf_nan_mode="null").decode()  # SQLite could not read NaN
    except ValueError:  # half of a character, for example
        return _BODY_ENCODER.encode(finite(fields))


def format_time(time: datetime) -> str:
    """Return the time in UTC with microseconds, in a fixed length, so that texts sort in the order of the times.

    Raises `BadRequestError` when the time has no zone or is out of range.
    """
    if time.tzinfo is None:
        raise BadRequestError(f"The time {time.isoformat()} has no zone.", hint="Send it as ISO 8601 with an offset.")
    try:
        return time.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise BadRequestError(f"The time {time.isoformat()} is out of range in UTC.") from None


def parse_time(text: str) -> datetime:
    """Return the time of a text that `format_time` wrote."""
    return datetime.fromisoformat(text)
