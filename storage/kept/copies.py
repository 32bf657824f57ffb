"""Copies of what other files hold and nothing could make anew, so that it comes back when these are damaged.

The tables are in the file of the journal. Images are known by a hash of their id there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from taxonomist.storage.catalog.image_ids import hashed_id
from taxonomist.storage.sqlite import Database

__all__ = ["KEPT_COPIES", "KeptCopies", "KeptFile"]

KEPT_COPIES = """
CREATE TABLE IF NOT EXISTS image_files (
    image TEXT PRIMARY KEY, file_hash TEXT NOT NULL, width INTEGER, height INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS project_copies (project TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID"""


@dataclass(frozen=True)
class KeptFile:
    """What is known of the file of an image: its hash, and its width and height in pixels."""

    file_hash: str
    width: int | None
    height: int | None


class KeptCopies:
    """The tables of one journal. Every method raises `StorageError` when the file cannot be read or written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep_files(self, files: Mapping[str, KeptFile]) -> None:
        """Keep what is known of files, by image id. Writes only what differs."""
        known = self.files(files)
        if new := {image: file for image, file in files.items() if known.get(image) != file}:
            with self._database.write() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO image_files VALUES (?, ?, ?, ?)",
                    [(hashed_id(image), file.file_hash, file.width, file.height) for image, file in new.items()],
                )

    def files(self, images: Iterable[str]) -> dict[str, KeptFile]:
        """Return what is kept of the files of these images, by image id."""
        names = {hashed_id(image): image for image in images}
        query = "SELECT * FROM image_files WHERE image IN (SELECT value FROM json_each(?))"
        with self._database.read() as connection:
            rows = connection.execute(query, (json.dumps(list(names)),)).fetchall()
        return {names[row["image"]]: KeptFile(row["file_hash"], row["width"], row["height"]) for row in rows}

    def keep_parts(self, project: str, parts: Mapping[str, str], *, known_stay: bool = False) -> None:
        """Keep the parts of images, by image id; of those that have a part already, too, unless `known_stay`.

        Images that were forgotten have theirs in the same table, see `Withdrawal.forget_images`.
        """
        known = self.parts(project, parts)
        if known_stay:
            parts = {image: part for image, part in parts.items() if image not in known}
        rows = [(project, hashed_id(image), part) for image, part in parts.items() if known.get(image) != part]
        self._database.write_rows(
            "INSERT INTO former_parts VALUES (?, ?, ?) ON CONFLICT (project, image) DO UPDATE SET part = excluded.part",
            rows,
        )

    def parts(self, project: str, images: Iterable[str]) -> dict[str, Literal["test", "train"]]:
        """Return the parts of those of the images that were trained, or forgotten, in the project, by image id."""
        names = {hashed_id(image): image for image in images}
        query = "SELECT * FROM former_parts WHERE project = ? AND image IN (SELECT value FROM json_each(?))"
        with self._database.read() as connection:
            rows = connection.execute(query, (project, json.dumps(list(names)))).fetchall()
        return {names[row["image"]]: row["part"] for row in rows}

    def keep_record(self, project: str, record: str) -> None:
        """Keep the record of a project as JSON, without what is secret."""
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO project_copies VALUES (?, ?)", (project, record))

    def recorded(self) -> list[str]:
        """Return the projects of which a record is kept, sorted."""
        with self._database.read() as connection:
            return [row["project"] for row in connection.execute("SELECT project FROM project_copies ORDER BY project")]

    def forget_record(self, project: str) -> None:
        """Delete what is kept of the record of a project."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM project_copies WHERE project = ?", (project,))

    def record(self, project: str) -> str | None:
        """Return the record that is kept of a project, None without one."""
        with self._database.read() as connection:
            row = connection.execute("SELECT record FROM project_copies WHERE project = ?", (project,)).fetchone()
        return None if row is None else str(row["record"])
