"""Removes what the journal has of images or of a project: tasks, annotations and their events.

What is left of an image that was forgotten is the part of the split that it was in, under a hash of its id: an image
that a model has learned from must never test one, also when it comes back.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.journal.events import is_label_studio
from taxonomist.storage.sqlite import Database

__all__ = ["JournalRows", "Withdrawal"]

_TABLES = ("tasks", "annotations", "task_images", "dirty")
_EVENT_FIELDS = ("source", "uri", "images", "task_id", "annotation_id")
_OF_IMAGES = "image_id IN (SELECT value FROM json_each(:images))"
_SHOWN = f"""(task_id, source) IN (
    SELECT task_id, source FROM tasks WHERE project = :project AND {_OF_IMAGES} UNION
    SELECT task_id, source FROM task_images WHERE project = :project AND {_OF_IMAGES})"""  # noqa: S608
_ALIVE = """EXISTS (
    SELECT 1 FROM live_tasks t WHERE t.project = {0}.project AND t.source = {0}.source AND t.task_id = {0}.task_id)"""
_USED = f"""
    SELECT image_id FROM live_tasks WHERE project = :project AND {_OF_IMAGES} UNION
    SELECT image_id FROM live_annotations a WHERE project = :project AND {_OF_IMAGES} AND NOT EXISTS (
        SELECT 1 FROM live_tasks t
        WHERE t.project = a.project AND t.source = a.source AND t.task_id = a.task_id AND t.images <> '{{}}') UNION
    SELECT i.image_id FROM task_images i CROSS JOIN live_tasks t
    ON t.project = i.project AND t.source = i.source AND t.task_id = i.task_id
    WHERE i.project = :project AND i.{_OF_IMAGES}"""  # noqa: S608


@dataclass(frozen=True)
class JournalRows:
    """How many rows of each kind there are, of a project or of some of its images."""

    tasks: int = 0
    annotations: int = 0
    events: int = 0


class Withdrawal:
    """What is to be forgotten in the journal. Every method raises `StorageError`, see `Journal`.

    An image leaves a project as after the deletion of its tasks: it is dirty until the catalogue knows it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def projects(self) -> list[str]:
        """Return the projects that the journal has anything of, sorted."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT project FROM projects UNION SELECT project FROM dirty ORDER BY project")
            return [row["project"] for row in rows]

    def projects_of(self, image: str) -> list[str]:
        """Return the projects in which the journal has the image, of deleted tasks too, sorted."""
        query = " UNION ".join(f"SELECT project FROM {table} WHERE image_id = :image" for table in _TABLES)  # noqa: S608
        with self._database.read() as connection:
            return sorted(row["project"] for row in connection.execute(query, {"image": image}))

    def images(self, project: str) -> set[str]:
        """Return the ids of all images that the journal has of a project, of deleted tasks too."""
        with self._database.read() as connection:
            return _images(connection, project)

    def used(self, images: Collection[str], *, but: str | None = None) -> set[str]:
        """Return those of the images that a task or an annotation shows, in any project or in any `but` one."""
        values = {"images": json.dumps(list(images))}
        used: set[str] = set()
        with self._database.read() as connection:
            for row in connection.execute("SELECT project FROM projects").fetchall():
                if row["project"] != but:
                    used |= {found[0] for found in connection.execute(_USED, values | {"project": row["project"]})}
        return used

    def rows(self, project: str, images: Collection[str] | None = None) -> JournalRows:
        """Return how many rows there are of a project, or of some of its images."""
        with self._database.read() as connection:
            if images is None:
                query = "SELECT count(*) FROM {} WHERE project = ?"
                tables = ("tasks", "annotations", "events")
                return JournalRows(*(connection.execute(query.format(t), (project,)).fetchone()[0] for t in tables))
            tasks, annotations = _rows_of(connection, project, images, alive=True)
            return JournalRows(len(tasks), len(annotations), len(_events_of(connection, project, images, tasks)))

    def tasks_with_others(self, project: str, image: str) -> list[tuple[str, str]]:
        """Return the tasks, by source and id, that show the image and others besides."""
        with self._database.read() as connection:
            return sorted(_tasks_with_others(connection, project, [image]))

    def withdraw_project(self, project: str, images: Iterable[str] = ()) -> None:
        """Delete everything of a project. Its images, and these, are dirty then."""
        with self._database.write() as connection:
            _make_dirty(connection, project, _images(connection, project) | set(images))
            for table in ("tasks", "task_images", "annotations", "deletions", "events"):
                connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))  # noqa: S608

    def withdraw_image(self, project: str, image: str) -> None:
        """Delete the tasks of an image, also those that exist, unless they show others too. The image is dirty then."""
        with self._database.write() as connection:
            _make_dirty(connection, project, [image])
            _delete(connection, project, [image], alive=True)

    def forget_images(self, images: Collection[str], parts: Mapping[tuple[str, str], str]) -> None:
        """Delete what is left of images that no task shows; `parts`, by project and image id, are kept.

        An image that was ever in the part "train" stays so. Deletions of Label Studio stay: they name numbers only, and
        a webhook that is late must not bring a task back.
        """
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO former_parts VALUES (?, ?, ?) ON CONFLICT (project, image) DO UPDATE"
                " SET part = excluded.part WHERE excluded.part = 'train'",
                [(project, _hashed(image), part) for (project, image), part in parts.items()],
            )
            for row in connection.execute("SELECT project FROM projects").fetchall():
                _delete(connection, row["project"], images, alive=False)

    def forget_project(self, project: str) -> None:
        """Delete the last trace of a project whose images have left it, but for their parts."""
        with self._database.write() as connection:
            for table in ("projects", "dirty", "unknown_paths"):
                connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))  # noqa: S608

    def kept_parts(self, project: str, images: Iterable[str]) -> dict[str, Literal["test", "train"]]:
        """Return the parts of those of the images that were forgotten after they had been in the project."""
        names = {_hashed(image): image for image in images}
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT image, part FROM former_parts WHERE project = ? AND image IN (SELECT value FROM json_each(?))",
                (project, json.dumps(list(names))),
            )
            return {names[row["image"]]: row["part"] for row in rows}

    def erase_deleted(self, *, rebuild: bool = False) -> None:
        """See `Database.erase_deleted`."""
        self._database.erase_deleted(rebuild=rebuild)


def _images(connection: sqlite3.Connection, project: str) -> set[str]:
    query = " UNION ".join(f"SELECT image_id FROM {table} WHERE project = :project" for table in _TABLES)  # noqa: S608
    return {row["image_id"] for row in connection.execute(query, {"project": project})}


def _make_dirty(connection: sqlite3.Connection, project: str, images: Iterable[str]) -> None:
    connection.executemany(
        "INSERT INTO dirty SELECT ?, ?, seq FROM folded WHERE true ON CONFLICT DO NOTHING",
        [(project, image) for image in images],
    )


def _delete(connection: sqlite3.Connection, project: str, images: Collection[str], *, alive: bool) -> None:
    """Delete the tasks, the annotations and the events of these images; tasks that exist only if they may be `alive`"""
    tasks, annotations = _rows_of(connection, project, images, alive=alive)
    events = _events_of(connection, project, images, tasks)
    for table in ("tasks", "task_images", "annotations"):
        connection.executemany(
            f"DELETE FROM {table} WHERE project = ? AND source = ? AND task_id = ?",  # noqa: S608
            [(project, *key) for key in tasks],
        )
    connection.executemany(
        "DELETE FROM annotations WHERE project = ? AND source = ? AND annotation_id = ?",
        [(project, *key) for key in annotations],
    )
    files = [("task", key) for key in tasks] + [("annotation", key) for key in annotations]
    connection.executemany(
        "DELETE FROM deletions WHERE project = ? AND what = ? AND source = ? AND id = ?",
        [(project, what, *key) for what, key in files if not is_label_studio(key[0])],
    )
    connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in events])


def _hashed(image: str) -> str:
    """Return what stands for the id of an image, which has the name of its file."""
    return hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _rows_of(
    connection: sqlite3.Connection, project: str, images: Collection[str], *, alive: bool
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the tasks and the annotations to delete, by source and id."""
    values = {"project": project, "images": json.dumps(list(images))}
    shown = connection.execute(
        f"SELECT source, task_id, {_ALIVE.format('tasks')} AS lives FROM tasks"  # noqa: S608
        f" WHERE project = :project AND {_SHOWN}",
        values,
    ).fetchall()
    others = _tasks_with_others(connection, project, images)
    tasks = {
        (row["source"], row["task_id"])
        for row in shown
        if not row["lives"] or (alive and (row["source"], row["task_id"]) not in others)
    }
    rows = connection.execute(
        f"SELECT source, annotation_id, task_id, {_ALIVE.format('annotations')} AS lives FROM annotations"  # noqa: S608
        f" WHERE project = :project AND ({_OF_IMAGES} OR {_SHOWN})",
        values,
    )
    annotations = {
        (row["source"], row["annotation_id"])
        for row in rows
        if (row["source"], row["task_id"]) in tasks
        or not row["lives"]
        or (alive and (row["source"], row["task_id"]) not in others)
    }
    return tasks, annotations


def _tasks_with_others(connection: sqlite3.Connection, project: str, images: Collection[str]) -> set[tuple[str, str]]:
    """Return the tasks that show one of the images and another image, by source and id."""
    values = {"project": project, "images": json.dumps(list(images))}
    rows = connection.execute(
        f"SELECT DISTINCT source, task_id FROM task_images WHERE project = :project AND {_SHOWN}"  # noqa: S608
        f" AND NOT {_OF_IMAGES}",
        values,
    )
    return {(row["source"], row["task_id"]) for row in rows}


def _events_of(
    connection: sqlite3.Connection, project: str, images: Collection[str], tasks: Collection[tuple[str, str]]
) -> list[int]:
    """Return the numbers of the folded events that show one of the images, or are about one of the tasks.

    An image of a manifest has its address as the id of its task, and in the ids of its annotations.
    """
    wanted = set(images)
    ids: dict[str, str] = {}
    found = []
    fields = ", ".join(f"json_extract(body, '$.{name}') AS {name}" for name in _EVENT_FIELDS)
    query = f"SELECT seq, {fields} FROM events WHERE project = ? AND seq <= (SELECT seq FROM folded)"  # noqa: S608
    for row in connection.execute(query, (project,)):
        names = [row["task_id"] or "", (row["annotation_id"] or "").rpartition("|")[0]]
        addresses = [row["uri"], *json.loads(row["images"] or "{}").values()]
        addresses += [name for name in names if not name.isdecimal()]
        for address in filter(None, addresses):
            if address not in ids:
                ids[address] = image_id(address)
        shows = any(ids[address] in wanted for address in filter(None, addresses))
        if shows or (row["source"], row["task_id"]) in tasks:
            found.append(row["seq"])
    return found
