"""How the images of a project were drawn for labelling, and the places of those that come next.

The tables are in the file of the journal. Images are known by a hash of their id there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from taxonomist.storage.catalog.image_ids import hashed_id
from taxonomist.storage.sqlite import Database

__all__ = ["DRAWS", "Drawn", "Draws"]

Drawn = Literal["before", "random", "order"]
"""Before the project had an order, at random, or by the order."""

DRAWS = """
CREATE TABLE IF NOT EXISTS draws (
    project TEXT NOT NULL, image TEXT NOT NULL, drawn TEXT NOT NULL, place REAL,
    PRIMARY KEY (project, image)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS draws_placed ON draws (project) WHERE place IS NOT NULL"""

_SLICE = 500  # rows of a write transaction
_PAUSE_S = 0.005  # after it, so that those of others come between


class Draws:
    """The table of one journal. Every method raises `StorageError` when the file cannot be read or written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, project: str, draws: Mapping[str, Drawn]) -> None:
        """Store how images were drawn, by image id. What is stored of an image never changes."""
        known = self.drawn(project, draws)
        rows = [(project, hashed_id(image), drawn) for image, drawn in draws.items() if image not in known]
        for start in range(0, len(rows), _SLICE):
            with self._database.write() as connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO draws VALUES (?, ?, ?, NULL)", rows[start : start + _SLICE]
                )
            time.sleep(_PAUSE_S)

    def drawn(self, project: str, images: Iterable[str]) -> dict[str, Drawn]:
        """Return how these images were drawn, by image id; an image without a draw is absent."""
        names = {hashed_id(image): image for image in images}
        query = "SELECT * FROM draws WHERE project = ? AND image IN (SELECT value FROM json_each(?))"
        with self._database.read() as connection:
            rows = connection.execute(query, (project, json.dumps(list(names)))).fetchall()
        return {names[row["image"]]: row["drawn"] for row in rows}

    def set_places(self, project: str, places: Mapping[str, float]) -> None:
        """Replace all places of a project, by the id of images whose draw is stored. The lowest comes first."""
        rows = [(place, project, hashed_id(image)) for image, place in places.items()]
        with self._database.write() as connection:
            connection.execute("UPDATE draws SET place = NULL WHERE project = ? AND place IS NOT NULL", (project,))
            connection.executemany("UPDATE draws SET place = ? WHERE project = ? AND image = ?", rows)

    def places(self, project: str, images: Collection[str]) -> dict[str, float]:
        """Return the places of these images, by image id; an image without a place is absent."""
        names = {hashed_id(image): image for image in images}
        query = """SELECT image, place FROM draws
            WHERE project = ? AND place IS NOT NULL AND image IN (SELECT value FROM json_each(?))"""
        with self._database.read() as connection:
            rows = connection.execute(query, (project, json.dumps(list(names)))).fetchall()
        return {names[row["image"]]: row["place"] for row in rows}
