"""How the labelled images of a project were drawn, and the places of those that are to be labelled next.

The tables are in the file of the journal. Images are known by a hash of their id there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from taxonomist.storage.catalog.image_ids import hashed_id
from taxonomist.storage.sqlite import Database

__all__ = ["DRAWS", "Drawn", "Draws"]

Drawn = Literal["before", "random", "order"]
"""Before the project had an order, at random, or by the order."""

DRAWS = """
CREATE TABLE IF NOT EXISTS draws (
    project TEXT NOT NULL, image TEXT NOT NULL, drawn TEXT, place REAL, PRIMARY KEY (project, image)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS draws_placed ON draws (project) WHERE place IS NOT NULL"""


class Draws:
    """The table of one journal. Every method raises `StorageError` when the file cannot be read or written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, project: str, draws: Mapping[str, Drawn]) -> None:
        """Store how labelled images were drawn, by image id. What is stored of an image never changes."""
        known = self.drawn(project, draws)
        rows = [(project, hashed_id(image), drawn) for image, drawn in draws.items() if image not in known]
        self._database.write_rows(
            "INSERT INTO draws VALUES (?, ?, ?, NULL) ON CONFLICT (project, image)"
            " DO UPDATE SET drawn = excluded.drawn WHERE drawn IS NULL",
            rows,
        )

    def drawn(self, project: str, images: Iterable[str]) -> dict[str, Drawn]:
        """Return how these images were drawn, by image id; one of which it is not known is absent."""
        return self._values("drawn", project, images)

    def set_places(self, project: str, places: Mapping[str, float]) -> None:
        """Replace all places of a project, by image id. The lowest comes first."""
        rows = [(project, hashed_id(image), place) for image, place in places.items()]
        with self._database.write() as connection:
            connection.execute("UPDATE draws SET place = NULL WHERE project = ? AND place IS NOT NULL", (project,))
            connection.executemany(
                "INSERT INTO draws VALUES (?, ?, NULL, ?) ON CONFLICT (project, image)"
                " DO UPDATE SET place = excluded.place",
                rows,
            )
            connection.execute("DELETE FROM draws WHERE project = ? AND drawn IS NULL AND place IS NULL", (project,))

    def places(self, project: str, images: Iterable[str]) -> dict[str, float]:
        """Return the places of these images, by image id; an image without a place is absent."""
        return self._values("place", project, images)

    def has_places(self, project: str) -> bool:
        """Return whether any image of the project has a place."""
        query = "SELECT 1 FROM draws WHERE project = ? AND place IS NOT NULL LIMIT 1"
        with self._database.read() as connection:
            return connection.execute(query, (project,)).fetchone() is not None

    def _values(self, column: str, project: str, images: Iterable[str]) -> dict[str, Any]:
        names = {hashed_id(image): image for image in images}
        query = f"""SELECT image, {column} FROM draws
            WHERE project = ? AND {column} IS NOT NULL AND image IN (SELECT value FROM json_each(?))"""  # noqa: S608
        with self._database.read() as connection:
            rows = connection.execute(query, (project, json.dumps(list(names)))).fetchall()
        return {names[row["image"]]: row[column] for row in rows}
