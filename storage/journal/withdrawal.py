"""Removes what the journal has of images or of a project: tasks, annotations and their events.

Webhooks are recorded meanwhile: what takes long, such as reading all events, happens outside of write transactions, and
each of these removes a few rows. A run that was killed is finished by the next one: rows by which others are found go
last.

What is left of an image that was forgotten is the part of the split that it was in, under a hash of its id: an image
that a model has learned from must never test one, also when it comes back.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from taxonomist.storage.catalog.image_ids import hashed_id, image_id
from taxonomist.storage.journal.events import is_label_studio
from taxonomist.storage.sqlite import Database

__all__ = ["JournalRows", "Withdrawal"]

_SLICE = 500  # rows that a transaction reads or removes by their key
_PAUSE_S = 0.005  # after a write transaction, so that those of others come between
_TABLES = ("tasks", "annotations", "task_images", "dirty")
_KEYS = {
    "annotations": "source, annotation_id",
    "tasks": "source, task_id",
    "task_images": "image_id, source, task_id, name",
    "deletions": "source, what, id",
    "dirty": "image_id",
    "unknown_paths": "image_id, control, path",
    "set_aside": "kind, key",
}
"""What identifies a row of a table within a project."""
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

_DECIDED = """
    SELECT image_id FROM image_tasks WHERE project = :project UNION
    SELECT image_id FROM image_annotations WHERE project = :project EXCEPT
    SELECT image_id FROM dirty WHERE project = :project EXCEPT
    SELECT key FROM set_aside WHERE project = :project AND kind = 'image'"""

_Key: TypeAlias = tuple[str, str]  # source and id of a task or an annotation


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
            rows = _rows_of(connection, project, images, alive=True)
        events = sum(map(len, self._events_of({project: images}, {project: rows.tasks.keys()})))
        return JournalRows(len(rows.tasks), len(rows.annotations) + sum(map(len, rows.tasks.values())), events)

    def tasks_with_others(self, project: str, image: str) -> list[tuple[str, str]]:
        """Return the tasks, by source and id, that show the image and others besides."""
        with self._database.read() as connection:
            return sorted(_tasks_with_others(connection, project, [image]))

    def decided(self, project: str) -> set[str]:
        """Return the ids of the images that a task or an annotation shows and that are decided: the catalogue has them.
        Those that are dirty, or set aside, it may not have."""
        with self._database.read() as connection:
            return {row["image_id"] for row in connection.execute(_DECIDED, {"project": project})}

    def decide_again(self, project: str, images: Iterable[str]) -> None:
        """Make these images dirty, so that the catalogue gets them and their labels again."""
        self._make_dirty(project, images)

    def withdraw_project(self, project: str, images: Iterable[str] = ()) -> None:
        """Delete everything of a project. Its images, and these, are dirty then."""
        self._make_dirty(project, self.images(project) | set(images))
        for events in self._pages_of_events("project = ? AS is_of_project", (project,)):
            self._delete_events([row["seq"] for row in events if row["is_of_project"]])
        for table in ("annotations", "task_images", "tasks", "deletions"):  # so that nothing deleted lives in between
            self._delete_all(table, project)

    def withdraw_image(self, project: str, image: str) -> None:
        """Delete the tasks of an image, also those that exist, unless they show others too. The image is dirty then."""
        self._make_dirty(project, [image])
        self._delete({project: [image]}, alive=True)

    def forget_images(self, images: Collection[str], parts: Mapping[tuple[str, str], str]) -> None:
        """Delete what is left of images that no task shows; `parts`, by project and image id, are kept.

        An image that was ever in the part "train" stays so. Deletions of Label Studio stay: they name numbers only, and
        a webhook that is late must not bring a task back.
        """
        self._database.write_rows(
            "INSERT INTO former_parts VALUES (?, ?, ?) ON CONFLICT (project, image) DO UPDATE"
            " SET part = excluded.part WHERE excluded.part = 'train'",
            [(project, hashed_id(image), part) for (project, image), part in parts.items()],
        )
        self._database.write_rows(
            "DELETE FROM set_aside WHERE kind = 'image' AND key = ?", [(image,) for image in images]
        )
        for table in ("image_files", "draws"):
            self._database.write_rows(f"DELETE FROM {table} WHERE image = ?", [(hashed_id(image),) for image in images])  # noqa: S608
        with self._database.read() as connection:
            projects = [row["project"] for row in connection.execute("SELECT project FROM projects")]
        self._delete(dict.fromkeys(projects, images), alive=False)

    def forget_project(self, project: str) -> None:
        """Delete the last trace of a project whose images have left it, but for their parts."""
        for table in ("unknown_paths", "set_aside", "dirty"):
            self._delete_all(table, project)
        for table in ("project_copies", "draws"):
            self._database.write_rows(f"DELETE FROM {table} WHERE project = ?", [(project,)])  # noqa: S608
        self._database.write_rows("DELETE FROM projects WHERE project = ?", [(project,)])

    def erase_deleted(self, *, rebuild: bool = False) -> None:
        """See `Database.erase_deleted`."""
        self._database.erase_deleted(rebuild=rebuild)

    def _delete(self, images: Mapping[str, Collection[str]], *, alive: bool) -> None:
        """Delete the events, the tasks and the annotations of images, by project.

        Tasks that exist go only if they may be `alive`. Events are found by their task, too, so they go first.
        """
        with self._database.read() as connection:
            tasks = {name: _rows_of(connection, name, some, alive=alive).tasks.keys() for name, some in images.items()}
        for numbers in self._events_of(images, tasks):
            self._delete_events(numbers)
        for project, some in images.items():
            for portion in _portions(sorted(some)):
                self._delete_rows(project, portion, alive=alive)

    def _delete_rows(self, project: str, images: Sequence[str], *, alive: bool) -> None:
        """Delete the tasks and the annotations of these images.

        Each transaction looks them up again, because a task that lives again by then stays.
        """
        with self._database.read() as connection:
            left = len(_rows_of(connection, project, images, alive=alive))
        while left > 0:
            with self._database.write() as connection:
                rows = _rows_of(connection, project, images, alive=alive)
                _delete_first(connection, project, rows)
            left = len(rows) - _SLICE
            time.sleep(_PAUSE_S)

    def _delete_events(self, numbers: Iterable[int]) -> None:
        rows = [(number,) for number in numbers]
        self._database.write_rows("DELETE FROM events WHERE seq = ?", rows)
        self._database.write_rows("DELETE FROM set_aside WHERE kind = 'event' AND key = CAST(? AS TEXT)", rows)

    def _delete_all(self, table: str, project: str) -> None:
        """Delete all rows that a table has of a project."""
        key = _KEYS[table]
        first = f"SELECT {key} FROM {table} WHERE project = ? LIMIT {_SLICE}"  # noqa: S608
        deleted = _SLICE
        while deleted == _SLICE:
            with self._database.write() as connection:
                deleted = connection.execute(
                    f"DELETE FROM {table} WHERE project = ? AND ({key}) IN ({first})",  # noqa: S608
                    (project, project),
                ).rowcount
            time.sleep(_PAUSE_S)

    def _make_dirty(self, project: str, images: Iterable[str]) -> None:
        self._database.write_rows(
            "INSERT INTO dirty SELECT ?, ?, seq FROM folded WHERE true ON CONFLICT DO NOTHING",
            [(project, image) for image in images],
        )

    def _events_of(
        self, images: Mapping[str, Collection[str]], tasks: Mapping[str, Collection[_Key]]
    ) -> Iterator[list[int]]:
        """Yield, page by page, the numbers of the folded events that show one of the images, or are about one of the
        tasks; both are by project.

        An image of a manifest has its address as the id of its task, and in the ids of its annotations.
        """
        wanted = {project: frozenset(some) for project, some in images.items()}
        ids: dict[str, str] = {}
        for rows in self._pages_of_events("project, body", where="AND seq <= (SELECT seq FROM folded)"):
            found = []
            for row in rows:
                if row["project"] not in wanted:
                    continue
                event = _fields(row["body"])
                addresses = _addresses(event)
                ids |= {address: image_id(address) for address in addresses if address not in ids}
                is_shown = any(ids[address] in wanted[row["project"]] for address in addresses)
                if is_shown or (event.get("source"), event.get("task_id")) in tasks[row["project"]]:
                    found.append(row["seq"])
            yield found

    def _pages_of_events(
        self, columns: str, values: tuple[Any, ...] = (), where: str = ""
    ) -> Iterator[list[sqlite3.Row]]:
        """Yield the events in pages, with their number `seq` and these columns; each page is read by itself."""
        query = f"SELECT seq, {columns} FROM events WHERE seq > ? {where} ORDER BY seq LIMIT {_SLICE}"  # noqa: S608
        last = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, (*values, last)).fetchall()
            if not rows:
                return
            last = rows[-1]["seq"]
            yield rows


@dataclass(frozen=True)
class _Rows:
    """What is to be deleted: tasks with the ids of their annotations, and other annotations."""

    tasks: dict[_Key, list[str]] = field(default_factory=dict)
    annotations: set[_Key] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.tasks) + len(self.annotations)


def _images(connection: sqlite3.Connection, project: str) -> set[str]:
    query = " UNION ".join(f"SELECT image_id FROM {table} WHERE project = :project" for table in _TABLES)  # noqa: S608
    return {row["image_id"] for row in connection.execute(query, {"project": project})}


def _portions(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), _SLICE):
        yield rows[start : start + _SLICE]


def _delete_first(connection: sqlite3.Connection, project: str, rows: _Rows) -> None:
    """Delete the first `_SLICE` of these tasks and annotations. The annotations of a task go with it."""
    tasks = sorted(rows.tasks)[:_SLICE]
    annotations = [(source, id) for source, task in tasks for id in rows.tasks[source, task]]
    annotations += sorted(rows.annotations)[: _SLICE - len(tasks)]
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


def _rows_of(connection: sqlite3.Connection, project: str, images: Collection[str], *, alive: bool) -> _Rows:
    """Return the tasks and the annotations to delete; tasks that exist only if they may be `alive`."""
    values = {"project": project, "images": json.dumps(list(images))}
    shown = connection.execute(
        f"SELECT source, task_id, {_ALIVE.format('tasks')} AS lives FROM tasks"  # noqa: S608
        f" WHERE project = :project AND {_SHOWN}",
        values,
    ).fetchall()
    others = _tasks_with_others(connection, project, images)
    found = _Rows()
    for row in shown:
        if not row["lives"] or (alive and (row["source"], row["task_id"]) not in others):
            found.tasks[row["source"], row["task_id"]] = []
    rows = connection.execute(
        f"SELECT source, annotation_id, task_id, {_ALIVE.format('annotations')} AS lives FROM annotations"  # noqa: S608
        f" WHERE project = :project AND ({_OF_IMAGES} OR {_SHOWN})",
        values,
    )
    for row in rows:
        task = (row["source"], row["task_id"])
        if task in found.tasks:
            found.tasks[task].append(row["annotation_id"])
        elif not row["lives"] or (alive and task not in others):
            found.annotations.add((row["source"], row["annotation_id"]))
    return found


def _tasks_with_others(connection: sqlite3.Connection, project: str, images: Collection[str]) -> set[tuple[str, str]]:
    """Return the tasks that show one of the images and another image, by source and id."""
    values = {"project": project, "images": json.dumps(list(images))}
    rows = connection.execute(
        f"SELECT DISTINCT source, task_id FROM task_images WHERE project = :project AND {_SHOWN}"  # noqa: S608
        f" AND NOT {_OF_IMAGES}",
        values,
    )
    return {(row["source"], row["task_id"]) for row in rows}


def _fields(body: str) -> Mapping[str, Any]:
    """Return the fields of an event; none of one that is damaged, which must not keep all others."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _addresses(event: Mapping[str, Any]) -> list[str]:
    """Return the addresses of images that an event names."""
    names = [event.get("task_id"), (event.get("annotation_id") or "").rpartition("|")[0]]
    addresses = [event.get("uri"), *(event.get("images") or {}).values()]
    addresses += [name for name in names if name and not name.isdecimal()]
    return [address for address in addresses if address]
