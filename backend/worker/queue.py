"""The queue that brings jobs to workers: huey on SQLite, its messages JSON."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from huey import SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Huey's messages and results as JSON. Its own serializer pickles, and what is pickled runs code when read."""

    def _serialize(self, data: Any) -> bytes:
        if isinstance(data, Message):
            fields = data._asdict()
            for name in ("eta", "expires_resolved"):
                if isinstance(fields.get(name), datetime):
                    fields[name] = fields[name].isoformat()
            data = {"message": fields}
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        value = json.loads(data)
        if not (isinstance(value, dict) and "message" in value):
            return value
        fields = value["message"]
        for name in ("eta", "expires_resolved"):
            if isinstance(fields.get(name), str):
                fields[name] = datetime.fromisoformat(fields[name])
        fields["args"] = tuple(fields["args"])
        return Message(**fields)


def open_queue(home: Path) -> SqliteHuey:
    """The queue in the home folder."""
    home.mkdir(parents=True, exist_ok=True)
    return SqliteHuey("taxonomist", filename=str(home / "queue.sqlite"), serializer=JsonSerializer(), results=False)
